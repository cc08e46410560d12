//! What the writer knows of streams: what others appended, what was read, and snapshots of both.

use sha2::{Digest, Sha256};

use super::{ALONE_AFTER_BATCHES, WriterTask};
use crate::{
    model::Model,
    writer::{
        cache::Cached,
        session::{ReadEvent, ReadSnapshot, ReadStreams, Session, SessionError, Tail},
        side::Snapshot,
    },
};

impl<M: Model> WriterTask<M> {
    /// Folds what others have appended; `false` when it doesn't connect to what is known, so that
    /// everything in memory is gone, and what is being read is of no use.
    pub(super) async fn fold_tail(
        &mut self,
        tail: Tail,
        session: &Session,
        reading: bool,
    ) -> Result<bool, SessionError> {
        if !tail.connects {
            // Too far behind, or another history: start from what is there now.
            self.cache.restart(session.head().await?);
            self.recall();
            self.queue.forget();
            return Ok(false);
        }
        if tail.events.is_empty() {
            self.locked_for = self.locked_for.saturating_sub(1);
        } else {
            self.locked_for = ALONE_AFTER_BATCHES;
        }
        if let Some(end) = tail.end {
            self.cache.advance(end);
        }
        // What was decided while waiting for the lock stands if nobody has touched what it rests
        // on.
        let touched = tail.events.iter().map(|event| event.stream.as_str());
        let stands = match &mut self.open {
            Some(open) => open.moved_behind(self.cache.head(), touched, &self.rules),
            None => true,
        };
        if !stands {
            self.recall();
        }
        for event in tail.events {
            self.fold(&event);
            if reading {
                self.kept.push(event);
            }
        }
        Ok(true)
    }

    /// Takes in streams that were read, and what others appended to them since they were asked
    /// for.
    pub(super) fn take_in(&mut self, streams: &[String], read: ReadStreams) {
        for stream in streams {
            self.cache.begin(stream.clone(), None);
        }
        for snapshot in read.snapshots {
            if let Some(state) = self.thaw(&snapshot) {
                self.cache.begin(snapshot.stream.clone(), Some((snapshot, state)));
            } else {
                // Without it the events behind it are worth nothing: the stream is read again.
                tracing::warn!(stream = snapshot.stream, "a snapshot can't be used");
                self.cache.forget(&snapshot.stream);
                self.distrusted.insert(snapshot.stream);
            }
        }
        for event in &read.events {
            self.fold(event);
        }
        for event in std::mem::take(&mut self.kept) {
            self.fold(&event);
        }
        self.offer_snapshots(streams);
    }

    fn fold(&mut self, event: &ReadEvent) {
        if let Err(error) = self.cache.fold(event) {
            tracing::error!(
                %error, stream = event.stream, position = event.position,
                "an event can't be folded; commands that read its stream fail"
            );
        }
    }

    /// Hands over the states of streams that have grown enough since their last snapshot.
    pub(super) fn offer_snapshots(&mut self, streams: &[String]) {
        let Some((fingerprint, offered)) = &self.snapshots else { return };
        for stream in streams {
            // Room first: a stream counts as kept once it has been looked at.
            let Ok(room) = offered.try_reserve() else { return };
            let events = self.rules.settings.snapshot_events;
            let Some(due) = self.cache.due_for_snapshot(stream, events) else { continue };
            let Cached { version, position, state: Ok(Some(state)), .. } = due else { continue };
            let Some(state) = self.rules.model.freeze(&state) else { continue };
            let snapshot = Snapshot {
                mac: Vec::new(),
                stream: stream.clone(),
                version,
                position,
                incarnation: self.incarnation,
                fingerprint: *fingerprint,
                state,
            };
            let message =
                self.snapshot_message(stream, version, position, fingerprint, &snapshot.state);
            room.send(Snapshot { mac: self.rules.keys.sign_bytes(&message), ..snapshot });
        }
    }

    /// The state in a snapshot that this installation wrote and this program reads.
    fn thaw(&self, snapshot: &ReadSnapshot) -> Option<M::State> {
        let (fingerprint, _) = self.snapshots.as_ref()?;
        let ReadSnapshot { stream, version, position, mac, state } = snapshot;
        let message = self.snapshot_message(stream, *version, *position, fingerprint, state);
        if !self.rules.keys.verify_bytes(&message, mac) {
            return None;
        }
        self.rules.model.thaw(stream, state)
    }

    /// What a snapshot's mac covers.
    fn snapshot_message(
        &self,
        stream: &str,
        version: i32,
        position: i64,
        fingerprint: &[u8; 32],
        state: &[u8],
    ) -> Vec<u8> {
        format!(
            "snapshot\n{}\n{}\n{stream}\n{version}\n{position}\n{}\n{}",
            self.rules.tenant.name,
            self.incarnation,
            hex::encode(fingerprint),
            hex::encode(Sha256::digest(state)),
        )
        .into_bytes()
    }
}
