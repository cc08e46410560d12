//! What another version of a projection would change: row by row, at the same position.

use daybook_journal::{Reader, Tenant};
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Client, Config, NoTls, types::ToSql};
use uuid::Uuid;

use crate::{
    copied::EventTable,
    definition::{Definition, short},
    lifecycle::{LifecycleError, find_version},
    versions::{Version, VersionState, versions},
};

/// How often it is tried to find both versions at the same position.
const TRIES: u32 = 50;
/// Positions by which the version behind is moved at once.
const PIECE_POSITIONS: i64 = 100_000;

/// A row that is not the same in both versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowDiff {
    /// Name of the tenant.
    pub tenant: String,
    /// Columns of the key.
    pub key: Value,
    /// The row of the version that is compared; `None`: it has none of this key.
    pub old: Option<Value>,
    /// The row of the version that it is compared with.
    pub new: Option<Value>,
}

/// What a comparison came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DiffReport {
    /// The version that is compared.
    pub from: String,
    /// The version that it is compared with.
    pub to: String,
    /// The position of both, by name of tenant.
    pub positions: Vec<(String, i64)>,
    /// Rows that are the same.
    pub same: i64,
    /// Rows with other values.
    pub changed: i64,
    /// Rows that only the compared version has.
    pub only_old: i64,
    /// Rows that only the other version has.
    pub only_new: i64,
}

/// Compares two versions for every tenant: the one that answers, or `from`, with the one that is
/// being built, or `to`. Where one is behind, it is moved to the other's position first; both go on
/// meanwhile, what is compared is a snapshot. `config` is the owner's; `journal` may be in another
/// database. `row` hears of every row that differs, in order of key.
pub async fn diff(
    config: &Config,
    journal: &Reader,
    projection: &str,
    from: Option<&str>,
    to: Option<&str>,
    row: &mut (dyn FnMut(RowDiff) + Send),
) -> Result<DiffReport, LifecycleError> {
    let (holder, holding) = config.connect(NoTls).await?;
    let (reader, reading) = config.connect(NoTls).await?;
    let (holding, reading) = (tokio::spawn(holding), tokio::spawn(reading));
    let compared = async {
        let all = versions(&holder).await?;
        let old = choose(&all, projection, from, VersionState::Active)?;
        let new = choose(&all, projection, to, VersionState::Building)?;
        let mut diff = Diff {
            journal,
            events: EventTable::here(&holder).await?,
            holder: &holder,
            reader: &reader,
            old: &old.definition,
            new: &new.definition,
            report: DiffReport {
                from: old.definition.version.clone(),
                to: new.definition.version.clone(),
                ..DiffReport::default()
            },
        };
        diff.run(row).await?;
        Ok(diff.report)
    }
    .await;
    holding.abort();
    reading.abort();
    compared
}

fn choose<'a>(
    all: &'a [Version],
    projection: &str,
    wanted: Option<&str>,
    otherwise: VersionState,
) -> Result<&'a Version, LifecycleError> {
    if let Some(wanted) = wanted {
        return find_version(all, projection, wanted);
    }
    let own = all.iter().filter(|version| version.definition.name == projection);
    let found = own.clone().find(|version| version.state == otherwise);
    // `find_version` names what there is
    found.map_or_else(|| find_version(all, projection, &format!("that is {otherwise}")), Ok)
}

struct Diff<'a> {
    journal: &'a Reader,
    events: EventTable,
    /// Holds the checkpoints of both versions while a snapshot is taken.
    holder: &'a Client,
    reader: &'a Client,
    old: &'a Definition,
    new: &'a Definition,
    report: DiffReport,
}

impl Diff<'_> {
    async fn run(&mut self, row: &mut (dyn FnMut(RowDiff) + Send)) -> Result<(), LifecycleError> {
        let keys = self.keys(self.old).await?;
        if keys != self.keys(self.new).await? {
            return Err(LifecycleError::OtherKeys {
                projection: self.old.name.clone(),
                from: short(&self.old.version).to_owned(),
                to: short(&self.new.version).to_owned(),
            });
        }
        for Tenant { id, name, .. } in self.journal.tenants().await? {
            let position = self.snapshot(id).await?;
            self.report.positions.push((name.clone(), position));
            self.compare(id, &name, &keys, row).await?;
            self.reader.batch_execute("rollback").await?;
        }
        Ok(())
    }

    /// Names and types of the key, without the tenant.
    async fn keys(&self, of: &Definition) -> Result<Vec<(String, String)>, LifecycleError> {
        let rows = self
            .holder
            .query(include_str!("../sql/columns.sql"), &[&of.schema(), &of.name])
            .await?;
        let mut keys: Vec<_> = rows
            .iter()
            .filter_map(|row| Some((row.get::<_, Option<i32>>(4)?, (row.get(0), row.get(1)))))
            .filter(|(place, _)| *place > 1)
            .collect();
        keys.sort_by_key(|(place, _)| *place);
        Ok(keys.into_iter().map(|(_, key)| key).collect())
    }

    /// Begins the reader's transaction at a moment when both versions stand at the same position,
    /// and returns it.
    async fn snapshot(&self, tenant: i32) -> Result<i64, LifecycleError> {
        for _try in 0..TRIES {
            self.holder.batch_execute("begin").await?;
            let (old, incarnation) = self.hold(self.old, tenant).await?;
            let (new, other) = self.hold(self.new, tenant).await?;
            if old == new {
                self.reader
                    .batch_execute(
                        "begin isolation level repeatable read read only; \
                         set local timezone = 'UTC'; select 1",
                    )
                    .await?;
                self.holder.batch_execute("rollback").await?;
                return Ok(old);
            }
            let (behind, at, until) =
                if old < new { (self.old, old, new) } else { (self.new, new, old) };
            let until = until.min(at + PIECE_POSITIONS);
            let Some(incarnation) = incarnation.or(other) else { break };
            let moved = async {
                self.events.bring(self.holder, behind, self.journal, tenant, at, until).await?;
                let advance = format!(
                    "select o_moved from {}.{}__advance_journal($1, $2, $3, $4)",
                    behind.schema(),
                    behind.name
                );
                let step: [&(dyn ToSql + Sync); 4] = [&tenant, &incarnation, &at, &until];
                let moved: bool = self.holder.query_one(&advance, &step).await?.get(0);
                Ok::<_, LifecycleError>(moved)
            }
            .await;
            self.holder.batch_execute(if moved.is_ok() { "commit" } else { "rollback" }).await?;
            if !moved? {
                break;
            }
        }
        self.holder.batch_execute("rollback").await.ok();
        Err(LifecycleError::Apart {
            projection: self.old.name.clone(),
            from: short(&self.old.version).to_owned(),
            to: short(&self.new.version).to_owned(),
        })
    }

    /// Locks a version's checkpoint, and says where it stands.
    async fn hold(
        &self,
        version: &Definition,
        tenant: i32,
    ) -> Result<(i64, Option<Uuid>), LifecycleError> {
        let row = self
            .holder
            .query_opt(
                "select position, incarnation from projection.checkpoints
                 where projection = $1 and version = $2 and tenant = $3 for update",
                &[&version.name, &version.version, &tenant],
            )
            .await?;
        Ok(row.map_or((0, None), |row| (row.get(0), row.get(1))))
    }

    async fn compare(
        &mut self,
        tenant: i32,
        name: &str,
        keys: &[(String, String)],
        row: &mut (dyn FnMut(RowDiff) + Send),
    ) -> Result<(), LifecycleError> {
        let each = |separator: &str, one: &dyn Fn(&str) -> String| {
            keys.iter().map(|(key, _)| one(key)).collect::<Vec<_>>().join(separator)
        };
        let (old, new) = (self.old.schema(), self.new.schema());
        let table = &self.old.name;
        let sql = include_str!("../sql/diff.sql")
            .replace("{old}", &format!("{old}.{table}"))
            .replace("{new}", &format!("{new}.{table}"))
            .replace(
                "{key}",
                &each(", ", &|k| format!("'{k}', coalesce(daybook_old.{k}, daybook_new.{k})")),
            )
            .replace(
                "{same_key}",
                &each(" and ", &|k| format!("daybook_old.{k} = daybook_new.{k}")),
            )
            .replace(
                "{keys}",
                &each(", ", &|k| format!("coalesce(daybook_old.{k}, daybook_new.{k})")),
            );
        let rows = self.reader.query_raw(&sql, [tenant]).await?;
        let mut rows = std::pin::pin!(rows);
        let mut differing = 0;
        while let Some(found) = rows.try_next().await? {
            let (old, new): (Option<Value>, Option<Value>) = (found.get(1), found.get(2));
            match (&old, &new) {
                (Some(_), None) => self.report.only_old += 1,
                (None, _) => self.report.only_new += 1,
                (Some(_), Some(_)) => self.report.changed += 1,
            }
            differing += i64::from(old.is_some());
            row(RowDiff { tenant: name.to_owned(), key: found.get(0), old, new });
        }
        let count = format!("select count(*) from {old}.{table} where tenant = $1");
        let all: i64 = self.reader.query_one(&count, &[&tenant]).await?.get(0);
        self.report.same += all - differing;
        Ok(())
    }
}
