//! `on_error = "park"`: an event that can't be folded onto a row puts that row's key aside, and
//! nothing else; its later events wait, and are folded when it is tried again.

use crate::kit::{
    NewEvent, Running, append, caught_up,
    folder::{Folder, TOML, put},
    installed, journal, rows, until,
};
use daybook_projection::{
    RebuildDeps, Source, VersionState, install, parked, rebuild, retry, status,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio_postgres::Client;

crate::kit::in_both_layouts!(only_the_keys_of_a_poisonous_event_wait_and_nothing_of_theirs_is_lost,);

const POISONED: &str = "if (e.data->>'n')::bigint < 0 then raise exception 'no negative numbers'; \
    end if; r.n := (2 * r.n + (e.data->>'n')::bigint) % 1000003;";

fn parking() -> Folder {
    let folder = Folder::new();
    folder.write("projection.toml", &TOML.replacen("events", "on_error = 'park'\nevents", 1));
    folder.write("apply.sql", POISONED);
    folder
}

/// Twice what was, plus `n`: the order of a key's events matters.
fn expected(events: &[NewEvent], until_poisoned: bool) -> Vec<String> {
    let mut sums = std::collections::BTreeMap::new();
    let mut stuck = std::collections::BTreeSet::new();
    for event in events {
        let (id, n) = (event.data["id"].as_str().unwrap(), event.data["n"].as_i64().unwrap());
        if n < 0 && until_poisoned {
            stuck.insert(id);
        }
        if !stuck.contains(id) {
            let sum = sums.entry(id).or_insert(0_i64);
            *sum = (2 * *sum + n.max(0)) % 1_000_003;
        }
    }
    let mut rows: Vec<_> = sums
        .iter()
        .map(|(id, n)| format!("{{\"n\": {n}, \"id\": \"{id}\", \"tenant\": 1}}"))
        .collect();
    rows.sort();
    rows
}

async fn sums(client: &Client) -> Vec<String> {
    let mut rows = rows(client, "sums").await;
    rows.sort();
    rows
}

/// The same fold, in which a negative number counts nothing.
async fn correct(client: &Client) {
    let source: String = client
        .query_one("select pg_get_functiondef(oid) from pg_proc where proname = 'sums__apply'", &[])
        .await
        .unwrap()
        .get(0);
    let fixed = source
        .replace("raise exception 'no negative numbers'", "r.n := 2 * r.n % 1000003; return r");
    assert_ne!(source, fixed);
    client.batch_execute(&fixed).await.unwrap();
}

async fn only_the_keys_of_a_poisonous_event_wait_and_nothing_of_theirs_is_lost() {
    let folder = parking();
    let (database, client) = installed(&folder.load()).await;
    let mut rng = StdRng::seed_from_u64(7);
    let mut history: Vec<_> = (0..400)
        .map(|_| put(["a", "b", "c", "d", "e"][rng.random_range(0..5)], rng.random_range(0..2)))
        .collect();
    history[150] = put("b", -1);
    history[153] = put("b", -1);
    history[300] = put("d", -1);
    append(&database.journal, 1, &history).await;
    let running = Running::start(&database).await;
    let events = journal(&database, 1).await;
    let mut at = 0;
    while at < events.len() {
        let to = (at + rng.random_range(1..60)).min(events.len());
        running.send(events[at..to].to_vec()).await;
        at = to;
    }
    caught_up(&database, &[]).await;
    assert_eq!(sums(&client).await, expected(&history, true));
    let waiting = parked(&client, Some("sums")).await.unwrap();
    let of: Vec<_> =
        waiting.iter().map(|p| (p.key.as_str(), p.position, p.kind.as_str())).collect();
    assert_eq!(of, [("[\"b\"]", 151, "Put"), ("[\"d\"]", 301, "Put")]);
    assert!(waiting[0].error.contains("no negative numbers"));
    let shown = status(&client, &database.reader()).await.unwrap().remove(0);
    assert_eq!((shown.parked, shown.error), (2, None));

    // a rebuild of the same version comes to the same rows, and leaves the parked ones
    for piece_positions in [None, Some(37)] {
        let deps = RebuildDeps {
            config: database.config.clone(),
            reader: database.reader(),
            feed: None,
            piece_positions,
            shares: None,
            anew: false,
        };
        let report = rebuild(&deps, "sums", Source::Journal, &|_, _| {}).await.unwrap();
        assert_eq!(report.changed_rows, 0);
    }
    // nothing has been corrected: they stay, and nothing has changed
    let tried = retry(&client, &database.reader(), "sums", None).await.unwrap();
    assert!(tried.len() == 2 && tried.iter().all(|(_, error)| error.is_some()), "{tried:?}");
    assert_eq!(sums(&client).await, expected(&history, true));

    correct(&client).await;
    let tried = retry(&client, &database.reader(), "sums", Some("[\"d\"]")).await.unwrap();
    assert!(tried.len() == 1 && tried[0].1.is_none(), "{tried:?}");
    assert_eq!(parked(&client, None).await.unwrap().len(), 1);
    retry(&client, &database.reader(), "sums", None).await.unwrap();
    assert_eq!(parked(&client, None).await.unwrap(), []);
    assert_eq!(sums(&client).await, expected(&history, false));
    // and what comes afterwards is folded onto them as ever
    history.push(put("b", 1));
    append(&database.journal, 1, &history[400..]).await;
    caught_up(&database, &[]).await;
    assert_eq!(sums(&client).await, expected(&history, false));
    running.stop().await;
}

#[tokio::test]
async fn a_corrected_version_has_nothing_parked() {
    let folder = parking();
    let (database, mut client) = installed(&folder.load()).await;
    let history = [put("a", 1), put("a", -1), put("b", 1), put("a", 1)];
    append(&database.journal, 1, &history).await;
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    assert_eq!(sums(&client).await, expected(&history, true));
    folder.write(
        "apply.sql",
        &POISONED
            .replace("raise exception 'no negative numbers'", "r.n := 2 * r.n % 1000003; return r"),
    );
    install(&mut client, &folder.load()).await.unwrap();
    until("the corrected version answers", async || {
        let all = status(&client, &database.reader()).await.unwrap();
        all.len() == 2
            && all[0].state == VersionState::Active
            && all[0].parked == 0
            && all[1].parked == 1
    })
    .await;
    until("analysts see it", async || sums(&client).await == expected(&history, false)).await;
    running.stop().await;
}

#[tokio::test]
async fn a_version_that_parks_what_the_one_before_has_is_not_switched_to_by_itself() {
    let folder = parking();
    folder.write("apply.sql", "r.n := r.n + abs((e.data->>'n')::bigint);");
    let (database, mut client) = installed(&folder.load()).await;
    append(&database.journal, 1, &[put("a", 1), put("b", -1), put("b", 1)]).await;
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    folder.write("apply.sql", POISONED);
    install(&mut client, &folder.load()).await.unwrap();
    until("it has caught up", async || {
        let all = status(&client, &database.reader()).await.unwrap();
        all.len() == 2 && all[1].position == 3 && all[1].parked == 1
    })
    .await;
    let refused = "select projection.switch_when_ready(projection, version)
                   from projection.versions where state = 'building'";
    assert!(!client.query_one(refused, &[]).await.unwrap().get::<_, bool>(0));
    assert_eq!(status(&client, &database.reader()).await.unwrap()[1].state, VersionState::Building);

    let source: String = client
        .query_one(
            "select pg_get_functiondef(p.oid) from pg_proc p join projection.versions v
                on v.schema = p.pronamespace::regnamespace::text
             where proname = 'sums__apply' and state = 'building'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    let fixed = source.replace("raise exception 'no negative numbers'", "return r");
    client.batch_execute(&fixed).await.unwrap();
    let tried = retry(&client, &database.reader(), "sums", None).await.unwrap();
    assert!(tried.len() == 1 && tried[0].1.is_none(), "{tried:?}");
    until("it answers", async || {
        status(&client, &database.reader()).await.unwrap()[1].state == VersionState::Retired
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn an_event_whose_keys_are_unknown_stops_also_what_parks() {
    let folder = parking();
    folder.write("key.sql", "select (e.data->>'id')::uuid::text as id, null::jsonb as part");
    let (database, client) = installed(&folder.load()).await;
    append(&database.journal, 1, &[put("018f2a3b-0000-7000-8000-000000000001", 1), put("odd", 1)])
        .await;
    let running = Running::start(&database).await;
    until("it is stopped", async || {
        status(&client, &database.reader()).await.unwrap()[0].error.is_some()
    })
    .await;
    let shown = status(&client, &database.reader()).await.unwrap().remove(0);
    assert_eq!((shown.position, shown.parked), (1, 0));
    assert_eq!(shown.error.unwrap().position, Some(2));
    running.stop().await;
}
