//! `daybook import events`: a journal restored elsewhere is the same in every row, and a damaged
//! export is refused by file and line, before anything of it is written.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use daybook_tests::{Installation, Role, Shop, charge, order, until};
use serde_json::{Value, json};
use tokio_postgres::{Client, error::SqlState};
use uuid::Uuid;

/// Longest wait for read models.
const SOON: Duration = Duration::from_mins(1);

/// Every event of a journal, all columns, as text.
async fn rows(client: &Client) -> Vec<String> {
    let sql = "select row(t.name, e.position, e.occurred_at, e.recorded_at, e.version,
                          e.schema_version, e.stream, e.type, e.mac, e.data, e.meta)::text
               from journal.events e join journal.tenants t using (tenant) order by name, position";
    let rows = client.query(sql, &[]).await.expect("the journal can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Every row of every read model, as text, once they all stand at the head.
async fn read_models(installation: &Installation) -> Vec<String> {
    until("every read model to be at the head", SOON, || async {
        let said = installation.run_ok(&["projections", "status", "--json"]).await;
        let mut states = said
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a JSON object a line"));
        states.all(|state| state["position"] == state["head"]).then_some(())
    })
    .await;
    let client = installation.connect_reads().await;
    let sql = "select projection, schema from projection.versions order by projection";
    let mut found = Vec::new();
    for version in client.query(sql, &[]).await.expect("versions can be read") {
        let (name, schema): (String, String) = (version.get(0), version.get(1));
        let rows = client
            .query(&format!("select t::text from {schema}.{name} t order by 1"), &[])
            .await
            .expect("a read model can be read");
        assert!(!rows.is_empty(), "{name}");
        found.extend(rows.iter().map(|row| format!("{name} {}", row.get::<_, String>(0))));
    }
    found
}

/// A journal with some of everything: a piece of a real shop, and orders that are paid.
async fn with_history(installation: Installation) -> Shop {
    let shop = Shop::open_on(installation, 100).await;
    let extract = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts/demo/uci_online_retail_extract.csv")
        .display()
        .to_string();
    shop.installation.run_ok(&["import", "uci-retail", &extract, "--quiet"]).await;
    for _ in 0..3 {
        let id = Uuid::new_v4();
        let mut placed = order(id, 2);
        placed["shipping"] = json!(395);
        let _placed = shop.operator.once("PlaceOrder", &placed).await.ok();
        let _paid = shop.operator.once("ChargePayment", &charge(id, 2895, "tok_success")).await;
    }
    let unpaid = "select count(*) from journal.events where type = 'OrderPaid'";
    until("the payments", SOON, || async {
        let client = shop.installation.connect().await;
        let paid: i64 = client.query_one(unpaid, &[]).await.expect("readable").get(0);
        (paid >= 3).then_some(())
    })
    .await;
    shop
}

/// Exports everything in files of 100 events.
async fn export(installation: &Installation, name: &str, more: &[&str]) -> PathBuf {
    let dir = installation.home().join(name);
    let out = dir.display().to_string();
    let mut arguments = vec!["export", "--format", "ndjson", "--file-events", "100", "--out", &out];
    arguments.extend(more);
    installation.run_ok(&arguments).await;
    dir
}

/// An installation with an empty journal and the MAC key of another.
async fn empty_one_for(source: &Installation) -> Installation {
    let target = Installation::new().await;
    let key = |of: &Installation| of.home().join("secrets/mac-1");
    fs::copy(key(source), key(&target)).expect("a secret can be copied");
    target
}

async fn restore(target: &Installation, dir: &Path) -> Result<String, String> {
    let done = target.run(&["import", "events", &dir.display().to_string()]).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    if done.status.success() { Ok(text(done.stdout)) } else { Err(text(done.stderr)) }
}

#[tokio::test]
async fn a_journal_restored_elsewhere_is_the_same_in_every_row_and_read_model() {
    let shop = with_history(Installation::new().await).await;
    let wanted_models = read_models(&shop.installation).await;
    let source = shop.installation.connect().await;
    let wanted = rows(&source).await;
    let head = shop.installation.head().await;
    assert!(head > 1_000);
    let begun = export(&shop.installation, "begun", &["--until", "700"]).await;
    let whole = export(&shop.installation, "whole", &[]).await;

    // One that ended in the middle goes on, and what is there is compared, not written again.
    let target = empty_one_for(&shop.installation).await;
    let said = restore(&target, &begun).await.expect("a sound export is restored");
    assert!(said.contains("700 restored"), "{said}");
    let said = restore(&target, &whole).await.expect("it goes on");
    assert!(said.contains(&format!("{} restored; 700 were there already", head - 700)), "{said}");
    let client = target.connect().await;
    assert!(rows(&client).await == wanted, "every column of every event is the same");
    let said = restore(&target, &whole).await.expect("it is there");
    assert!(said.contains(&format!("0 restored; {head} were there already")), "{said}");
    target.check_journal().await;

    // What follows from the journal follows here too; and it goes on where it was.
    let server = target.start("up").await;
    let operator = server.client(&target.key(Role::Operator).await);
    assert!(read_models(&target).await == wanted_models, "read models are the same");
    let placed = operator.once("PlaceOrder", &order(Uuid::new_v4(), 1)).await.ok();
    assert!(placed.position().parse::<i64>().expect("an operator sees numbers") > head);
    let too_late = restore(&target, &whole).await.expect_err("it has gone on");
    assert!(too_late.contains("behind the export's last one"), "{too_late}");

    // A part that begins later wants what is before it.
    let later = export(&shop.installation, "later", &["--from", "701"]).await;
    let target = empty_one_for(&shop.installation).await;
    let said = restore(&target, &later).await.expect_err("positions would be missing");
    assert!(said.contains("begins at position 701, and the journal here ends at 0"), "{said}");
    assert_eq!(target.head().await, 0);
    restore(&target, &begun).await.expect("first the one");
    restore(&target, &later).await.expect("then the other");
    assert!(rows(&target.connect().await).await == wanted);
}

/// Something that is wrong with an export, and what is said about it.
struct Damage {
    what: &'static str,
    /// Changes the lines of the second file, of positions 101 to 200.
    lines: fn(&mut Vec<String>),
    said: &'static str,
}

/// A change of a manifest.
type Edit = fn(&mut Value);

const SECOND: &str = "events-000000000101.ndjson";

const DAMAGES: [Damage; 13] = [
    Damage {
        what: "a changed value",
        lines: |lines| lines[41] = changed(&lines[41], "\"sku\": \"", "\"sku\": \"9"),
        said: ":42: the mac of position 142 disagrees",
    },
    Damage {
        what: "a changed time",
        lines: |lines| {
            lines[0] = changed(&lines[0], "\"recorded_at\":\"20", "\"recorded_at\":\"21");
        },
        said: ":1: the mac of position 101 disagrees",
    },
    Damage {
        what: "another actor",
        lines: |lines| lines[5] = changed(&lines[5], "\"actor\": \"", "\"actor\": \"x"),
        said: ":6: the mac of position 106 disagrees",
    },
    Damage {
        what: "another event's mac",
        lines: |lines| {
            let mac = |line: &str| line.split("\"mac\":\"").nth(1).expect("a mac")[..66].to_owned();
            lines[7] = changed(&lines[7], &mac(&lines[7]), &mac(&lines[8]));
        },
        said: ":8: the mac of position 108 disagrees",
    },
    Damage {
        what: "a line that is missing",
        lines: |lines| drop(lines.remove(9)),
        said: ":10: position 110 is missing before this line",
    },
    Damage {
        what: "three lines that are missing",
        lines: |lines| drop(lines.drain(9..12)),
        said: ":10: positions 110 to 112 are missing before this line",
    },
    Damage {
        what: "a line twice",
        lines: |lines| lines.insert(3, lines[2].clone()),
        said: ":4: position 103 again, where 104 comes next",
    },
    Damage {
        what: "an event of another tenant",
        lines: |lines| lines[1] = changed(&lines[1], "\"tenant\":\"main\"", "\"tenant\":\"else\""),
        said: ":2: this is an event of tenant else, not of main",
    },
    Damage {
        what: "a file that is cut off in a line",
        lines: |lines| {
            lines.truncate(60);
            let last = lines.last_mut().expect("lines");
            last.truncate(80);
        },
        said: ":60: the file is cut off within this line",
    },
    Damage {
        what: "a file that is cut off between lines",
        lines: |lines| lines.truncate(60),
        said: ":60: the file is cut off behind this line, positions 161 to 200 are missing",
    },
    Damage {
        what: "a line more than there should be",
        lines: |lines| lines.push(lines[0].clone()),
        said: ":101: there is more than the manifest's 100 events",
    },
    Damage {
        what: "no JSON",
        lines: |lines| lines[20] = "{}\n".replace("{}", "{\"tenant\":\"main\""),
        said: ":21: no event",
    },
    Damage {
        what: "the same events in other bytes",
        lines: |lines| lines[30] = changed(&lines[30], "{\"tenant\":", "{ \"tenant\":"),
        said: ": ",
    },
];

fn changed(line: &str, from: &str, to: &str) -> String {
    assert!(line.contains(from), "{from} is not in {line}");
    line.replacen(from, to, 1)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("an entry can be read");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a file can be copied");
    }
}

#[tokio::test]
async fn every_kind_of_damage_is_refused_by_file_and_line_and_nothing_is_written() {
    let shop = with_history(Installation::new().await).await;
    let whole = export(&shop.installation, "whole", &[]).await;
    let target = empty_one_for(&shop.installation).await;
    let fresh = |name: &str| {
        let dir = target.home().join(name.replace(' ', "-"));
        copy(&whole, &dir);
        dir
    };
    for Damage { what, lines, said } in DAMAGES {
        let dir = fresh(what);
        let text = fs::read_to_string(dir.join(SECOND)).expect("the file is there");
        let mut all: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        lines(&mut all);
        fs::write(dir.join(SECOND), all.concat()).expect("it can be changed");
        let refused = restore(&target, &dir).await.expect_err(what);
        assert!(refused.contains(&format!("{SECOND}{said}")), "{what}: {refused}");
        assert_eq!(target.head().await, 0, "{what}");
    }

    // The manifest, in itself and against the files.
    let edits: [(&str, Edit, &str); 9] = [
        ("count", |m| m["events"] = json!(1), "manifest.json: positions 1 to "),
        ("bytes", |m| m["bytes"] = json!(1), "manifest.json: the files' bytes"),
        ("hash", |m| m["files"][1]["sha256"] = json!("00"), "events-000000000101.ndjson: "),
        ("range", |m| m["files"][1]["from"] = json!(102), "position 101 comes next"),
        ("path", |m| m["files"][1]["path"] = json!("../x"), "is no path in its folder"),
        ("lost", |m| m["files"][1]["path"] = json!("lost.ndjson"), "lost.ndjson: No such file"),
        ("tenant", |m| m["tenant"] = json!("other"), "events of tenant other"),
        ("form", |m| m["daybook_export"] = json!(2), "form 2 is not known here"),
        ("format", |m| m["format"] = json!("parquet"), "only the stored form, NDJSON, restores"),
    ];
    for (what, edit, said) in edits {
        let dir = fresh(what);
        let path = dir.join("manifest.json");
        let text = fs::read(&path).expect("it is there");
        let mut manifest: Value = serde_json::from_slice(&text).expect("it is JSON");
        edit(&mut manifest);
        fs::write(&path, manifest.to_string()).expect("it can be changed");
        let refused = restore(&target, &dir).await.expect_err(what);
        assert!(refused.contains(said), "{what}: {refused}");
        assert_eq!(target.head().await, 0, "{what}");
    }

    // Without the key nobody can say what was changed, so everything is refused.
    let stranger = Installation::new().await;
    let refused = restore(&stranger, &whole).await.expect_err("another installation's key");
    assert!(refused.contains("events-000000000001.ndjson:1: the mac of position 1"), "{refused}");
    assert_eq!(stranger.head().await, 0);

    // A version that nobody may write here, and a journal with a history of its own.
    let admin = target.connect().await;
    let forget = "delete from journal.activations where type = 'OrderPlaced' and version = 2";
    admin.batch_execute(forget).await.expect("a superuser can do anything");
    let refused = restore(&target, &whole).await.expect_err("it is not activated");
    assert!(refused.contains("OrderPlaced/2 is not activated here"), "{refused}");
    assert_eq!(target.head().await, 0);
    let other = Shop::open(1).await;
    fs::copy(
        shop.installation.home().join("secrets/mac-1"),
        other.installation.home().join("secrets/mac-1"),
    )
    .expect("a secret can be copied");
    let head = other.installation.head().await;
    let refused = restore(&other.installation, &whole).await.expect_err("it has its own history");
    assert!(refused.contains("position 1 holds another event here"), "{refused}");
    assert_eq!(other.installation.head().await, head);
}

/// Calls the function that a restore uses, with one event of a stream.
async fn put_in(
    client: &Client,
    head: i64,
    head_mac: Option<&[u8]>,
    version: i32,
    schema_version: i16,
    recorded_at: &str,
) -> Result<i64, SqlState> {
    let sql = "select journal.restore(1, $1, $2, array['stock-A'], array[$3::integer],
                   array['StockReceived'], array[$4::smallint], array[now()],
                   array[$5::text::timestamptz], array['{}'], array['{}'],
                   array[decode('01' || repeat('00', 32), 'hex')])";
    client
        .query_one(sql, &[&head, &head_mac, &version, &schema_version, &recorded_at])
        .await
        .map(|row| row.get(0))
        .map_err(|error| error.code().unwrap_or_else(|| panic!("{error}")).clone())
}

#[tokio::test]
async fn a_restore_can_only_append_what_follows_the_head() {
    let installation = Installation::new().await;
    let client = installation.connect().await;
    let state = |code: &str| Err(SqlState::from_code(code));
    let mac = [&[1][..], &[0; 32]].concat();
    let (now, before) = ("2026-01-02 00:00Z", "2026-01-01 00:00Z");
    assert_eq!(put_in(&client, 1, None, 1, 1, now).await, state("DB010"));
    assert_eq!(put_in(&client, 0, None, 2, 1, now).await, state("DB011"), "version 1 is missing");
    assert_eq!(put_in(&client, 0, None, 1, 9, now).await, state("DB012"), "not activated");
    assert_eq!(put_in(&client, 0, None, 1, 1, now).await, Ok(1));
    assert_eq!(put_in(&client, 0, None, 1, 1, now).await, state("DB010"), "nothing is overwritten");
    assert_eq!(put_in(&client, 1, Some(&[1]), 2, 1, now).await, state("DB010"), "another event");
    assert_eq!(put_in(&client, 1, Some(&mac), 1, 1, now).await, state("DB011"), "version 1 again");
    assert_eq!(
        put_in(&client, 1, Some(&mac), 3, 1, now).await,
        state("DB011"),
        "version 2 missing"
    );
    assert_eq!(
        put_in(&client, 1, Some(&mac), 2, 1, before).await,
        state("DB011"),
        "time goes back"
    );
    assert_eq!(put_in(&client, 1, Some(&mac), 2, 1, now).await, Ok(2));
    // It waits for whoever appends.
    let other = installation.connect().await;
    other.batch_execute("begin; select journal.lock(1)").await.expect("the lock can be had");
    client.batch_execute("set lock_timeout = '100ms'").await.expect("a setting");
    assert_eq!(
        put_in(&client, 2, Some(&mac), 3, 1, now).await,
        Err(SqlState::LOCK_NOT_AVAILABLE),
        "the tenant's lock is held"
    );
    // Whoever may not call it is refused, whether or not it would have to wait.
    other.batch_execute("rollback").await.expect("the lock can be let go");
    for role in ["serve", "import", "work", "audit"] {
        let client = installation.connect_as(role).await;
        let refused = put_in(&client, 2, Some(&mac), 3, 1, now).await;
        assert_eq!(refused, Err(SqlState::INSUFFICIENT_PRIVILEGE), "{role}");
    }
}
