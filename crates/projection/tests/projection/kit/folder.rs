//! A projection that sums `n` by key, in a folder that a test may change.

use std::{fs, path::PathBuf};

use daybook_projection::Catalogue;
use serde_json::json;
use tempfile::TempDir;

use super::NewEvent;

pub(crate) const TOML: &str = "title = 'Sums'\nevents = ['Put']\n[[query]]\nname = 'sums'\ntitle = 'All sums'\n\
    path = '/v1/operator/sums'\nroles = ['operator']\nanswer = 'list'\norder = ['id']";
pub(crate) const TABLE: &str =
    "create table read.sums (tenant integer not null, id text not null, \
    n bigint not null default 0, primary key (tenant, id));
    create function read.sign(n bigint) returns text language sql immutable as \
    $$ select case when n < 0 then '-' else '+' end $$;";
pub(crate) const APPLY: &str = "r.n := r.n + (e.data->>'n')::bigint;";
pub(crate) const QUERY: &str =
    "select id, n, read.sign(n) as sign from read.sums where tenant = :tenant";

/// The folder of a projection that sums `n` by key.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(folder.path().join("queries")).unwrap();
        folder
            .write("projection.toml", TOML)
            .write("table.sql", TABLE)
            .write("key.sql", "select e.data->>'id' as id, null::jsonb as part")
            .write("apply.sql", APPLY)
            .write("queries/sums.sql", QUERY);
        folder
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("sums")
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> &Self {
        fs::write(self.path().join(file), text).unwrap();
        self
    }

    pub(crate) fn load(&self) -> Catalogue {
        Catalogue::load(self.0.path()).unwrap()
    }
}

/// An event that adds `n` to a key.
pub(crate) fn put(id: &str, n: i64) -> NewEvent {
    NewEvent {
        stream: format!("s-{id}"),
        kind: "Put",
        data: json!({"id": id, "n": n}),
        occurred_at: "2011-01-01T00:00:00Z".parse().unwrap(),
    }
}
