//! `daybook export`: the same bytes each time, also after kill -9 in the middle.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use daybook_tests::{Installation, bulk_history};
use serde_json::Value;

/// Orders of the history; about fourteen events each.
const ORDERS: u32 = 2_000;
/// Times that an export is killed in the middle; one that is too fast for it doesn't count.
const KILLS: u32 = 3;

/// Every file below a folder, by its path in it.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("it is below").display().to_string();
                found.insert(name, fs::read(&path).expect("a file can be read"));
            }
        }
    }
    found
}

fn finished(dir: &Path) -> Vec<PathBuf> {
    let Ok(progress) = fs::read_to_string(dir.join("progress.ndjson")) else { return Vec::new() };
    let pieces = progress.lines().skip(1).filter_map(|line| serde_json::from_str(line).ok());
    pieces
        .flat_map(|piece: Value| piece["files"].as_array().cloned().unwrap_or_default())
        .map(|file| dir.join(file["path"].as_str().expect("a path")))
        .collect()
}

/// Runs an export to its end.
async fn export(installation: &Installation, format: &str, dir: &Path, more: &[&str]) -> String {
    let dir = dir.display().to_string();
    let mut arguments = vec!["export", "--format", format, "--out", &dir];
    arguments.extend(more);
    installation.run_ok(&arguments).await
}

/// Starts an export and kills it once some files are finished. Returns them; `None`: it was faster.
async fn killed(installation: &Installation, format: &str, dir: &Path) -> Option<Vec<PathBuf>> {
    let out = dir.display().to_string();
    let mut running = installation.spawn(&[
        "export",
        "--format",
        format,
        "--out",
        &out,
        "--file-events",
        "1000",
        "--quiet",
    ]);
    while finished(dir).len() < 3 {
        if running.try_wait().expect("it can be asked").is_some() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    running.kill().await.expect("it can be killed");
    (!dir.join("manifest.json").exists()).then(|| finished(dir))
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|data| data.modified()).expect("the file is there")
}

async fn same_bytes(format: &str) {
    let installation = Installation::new().await;
    let admin = installation.connect().await;
    admin.batch_execute(&bulk_history(ORDERS)).await.expect("a history can be written");
    let head = installation.head().await;
    let dir = |name: &str| installation.home().join(name);
    let size = ["--file-events", "1000"];

    let said = export(&installation, format, &dir("one"), &size).await;
    assert!(said.starts_with(&format!("{head} events of tenant main, positions 1 to {head}")));
    let one = contents(&dir("one"));
    let manifest: Value = serde_json::from_slice(&one["manifest.json"]).expect("it is JSON");
    assert_eq!((&manifest["format"], &manifest["events"]), (&format.into(), &head.into()));
    assert!(one.len() > 20 && !one.contains_key("progress.ndjson"), "{:?}", one.keys());
    export(&installation, format, &dir("two"), &size).await;
    assert!(one == contents(&dir("two")), "the same range gives the same bytes");
    // With everything there it is read, and left alone.
    let before = modified(&dir("one").join("manifest.json"));
    export(&installation, format, &dir("one"), &size).await;
    assert_eq!(modified(&dir("one").join("manifest.json")), before);

    let mut kills = 0;
    for attempt in 0..50 {
        if kills == KILLS {
            break;
        }
        let dir = dir(&format!("killed-{attempt}"));
        let Some(files) = killed(&installation, format, &dir).await else { continue };
        kills += 1;
        // What is finished is kept, but not blindly: one file is no longer what was written.
        let (kept, broken) = (&files[0], &files[files.len() - 1]);
        let since = modified(kept);
        let mut bytes = fs::read(broken).expect("it is finished");
        bytes[10] ^= 1;
        fs::write(broken, bytes).expect("it can be changed");
        export(&installation, format, &dir, &size).await;
        assert!(one == contents(&dir), "continued, it gives the same bytes");
        assert_eq!(modified(kept), since, "a sound file is kept");
    }
    assert_eq!(kills, KILLS, "an export can be killed in its middle");

    // A part has what the whole has there.
    let part = dir("part");
    export(&installation, format, &part, &["--from", "101", "--until", "200"]).await;
    let manifest: Value =
        serde_json::from_slice(&contents(&part)["manifest.json"]).expect("it is JSON");
    assert_eq!((&manifest["from"], &manifest["events"]), (&101.into(), &100.into()));
}

#[tokio::test]
async fn ndjson_has_the_same_bytes_each_time_and_after_kill_9() {
    same_bytes("ndjson").await;
}

#[tokio::test]
async fn parquet_has_the_same_bytes_each_time_and_after_kill_9() {
    same_bytes("parquet").await;
}

#[tokio::test]
async fn an_export_is_of_one_plan_and_of_a_journal_without_gaps() {
    let installation = Installation::new().await;
    let admin = installation.connect().await;
    let dir = installation.home().join("out");
    let out = dir.display().to_string();
    // Nothing is an export too.
    let said = export(&installation, "ndjson", &dir, &[]).await;
    assert!(said.starts_with("0 events of tenant main, positions 1 to 0, 0 files"), "{said}");

    admin.batch_execute(&bulk_history(20)).await.expect("a history can be written");
    let head = installation.head().await;
    let refused = |arguments: Vec<String>| {
        let installation = &installation;
        async move {
            let mut all = vec!["export".to_owned()];
            all.extend(arguments);
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let done = installation.run(&all).await;
            assert!(!done.status.success());
            String::from_utf8(done.stderr).expect("text")
        }
    };
    let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    for (arguments, why) in [
        (format!("--format ndjson --out {out} --until {head}"), "of another range"),
        (format!("--format ndjson --out {out} --from 2"), "of another range"),
        (format!("--format ndjson --out {out} --file-events 7"), "files of another size"),
        (format!("--format ndjson --out {out}-2 --until {}", head + 1), "ends at position"),
        (format!("--format ndjson --out {out}-2 --from 9 --until 7"), "no range"),
        (format!("--format ndjson --out {}", installation.home().display()), "something else"),
    ] {
        let said = refused(words(&arguments)).await;
        assert!(said.contains(why), "{arguments}: {said}");
    }

    // A journal that somebody has cut a piece out of is not exported as if it were whole.
    let cut = "alter table journal.events disable trigger all;
               delete from journal.events where position = 17;
               alter table journal.events enable always trigger events_never_change;
               alter table journal.events enable always trigger events_never_truncated";
    admin.batch_execute(cut).await.expect("a superuser can do anything");
    let said = refused(words(&format!("--format ndjson --out {out}-3"))).await;
    assert!(said.contains("position 17: it is missing in the journal"), "{said}");
    assert!(!dir.with_file_name("out-3").join("manifest.json").exists());
    let part = format!("--format ndjson --out {out}-4 --until 17");
    let said = refused(words(&part)).await;
    assert!(said.contains("position 17: it is missing in the journal"), "{said}");
}
