//! What the repository promises about itself: directions of dependencies, and absences.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What each crate may depend on, of ours. ARCHITECTURE.md gives the reasons.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("journal", &[]),
    ("identity", &[]),
    ("commands", &["domain", "journal"]),
    ("feed", &["journal"]),
    ("projection", &["feed", "journal"]),
    ("work", &["commands", "identity", "journal"]),
    ("api", &["commands", "identity", "journal", "projection"]),
    ("export", &["journal"]),
    (
        "daybook",
        &["api", "commands", "export", "feed", "identity", "journal", "projection", "work"],
    ),
];

/// Crates from elsewhere that have one home.
const ONLY_HOME: &[(&str, &[&str])] = &[
    ("rdkafka", &["feed"]),
    ("warp", &["api"]),
    ("parquet", &["export"]),
    ("anyhow", &["daybook"]),
];

/// Longest source file. The aim is 500; beyond this there is certainly a second concept in it.
const MAX_LINES: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is a folder of it").to_owned()
}

/// Files of the repository below `dir` whose name ends so, without what builds leave behind.
fn files(dir: &Path, ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_symlink()
                || matches!(name.as_str(), "target" | "node_modules" | "__pycache__")
            {
                continue;
            }
            if path.is_dir() {
                if !name.starts_with('.') || name == ".ci" {
                    folders.push(path);
                }
            } else if ends.iter().any(|end| name.ends_with(end)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Names in all of a crate's dependency tables, for building and for tests.
fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(manifest).expect("a manifest can be read");
    let manifest: toml::Table = text.parse().expect("a manifest is TOML");
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|table| manifest.get(*table)?.as_table())
        .flat_map(|table| table.keys().cloned())
        .collect()
}

fn crates() -> BTreeMap<String, BTreeSet<String>> {
    fs::read_dir(root().join("crates"))
        .expect("there are crates")
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .map(|path| {
            let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            (name, dependencies(&path.join("Cargo.toml")))
        })
        .collect()
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let rules: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut faults = Vec::new();
    for (name, dependencies) in crates() {
        let Some(allowed) = rules.get(name.as_str()) else {
            faults.push(format!("{name} has no rule: say in MAY_USE what it may depend on"));
            continue;
        };
        for used in dependencies.iter().filter_map(|name| name.strip_prefix("daybook-")) {
            if !allowed.contains(&used) {
                faults.push(format!("{name} must not depend on {used}"));
            }
        }
        for (elsewhere, homes) in ONLY_HOME {
            if dependencies.contains(*elsewhere) && !homes.contains(&name.as_str()) {
                faults
                    .push(format!("{name} must not depend on {elsewhere}: its home is {homes:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_domain_is_pure() {
    let mut faults = Vec::new();
    for path in files(&root().join("crates/domain/src"), &[".rs"]) {
        let text = fs::read_to_string(&path).expect("a source can be read");
        for word in [
            "Utc::now",
            "SystemTime",
            "Instant::now",
            "new_v4",
            "now_v7",
            "rand::",
            "std::fs",
            "std::net",
            "std::env",
            "async fn",
            "f32",
            "f64",
        ] {
            if text.contains(word) {
                faults.push(format!("{}: {word}", shown(&path)));
            }
        }
    }
    let all = crates();
    for impure in ["tokio", "tokio-postgres", "rand", "reqwest", "serde_json", "tracing"] {
        if all["domain"].contains(impure) {
            faults.push(format!("crates/domain depends on {impure}"));
        }
    }
    assert!(
        faults.is_empty(),
        "no clock, no randomness, no I/O, no floats:\n{}",
        faults.join("\n")
    );
}

#[test]
fn every_crate_has_the_workspaces_lints_and_version() {
    let mut manifests: Vec<PathBuf> =
        crates().keys().map(|name| root().join("crates").join(name).join("Cargo.toml")).collect();
    manifests.push(root().join("tests/Cargo.toml"));
    for path in manifests {
        let text = fs::read_to_string(&path).expect("a manifest can be read");
        for line in
            ["[lints]\nworkspace = true", "version.workspace = true", "license.workspace = true"]
        {
            assert!(text.contains(line), "{}: {line}", shown(&path));
        }
    }
}

#[test]
fn nothing_is_left_for_later_in_the_sources() {
    // In two parts, so that this file does not find itself.
    let forbidden = [
        concat!("#[ign", "ore"),
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("d", "bg!("),
        concat!("FIX", "ME"),
        concat!("X", "XX:"),
    ];
    let silenced = concat!("[al", "low(");
    let mut faults = Vec::new();
    for path in files(&root(), &[".rs"]) {
        let text = fs::read_to_string(&path).expect("a source can be read");
        if !text.starts_with("//!") {
            faults.push(format!("{}: does not open with a //! line", shown(&path)));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{}: {lines} lines, at most {MAX_LINES}", shown(&path)));
        }
        // `expect` tells when its reason is gone; where it can't be used (generated code, a kit that
        // each test uses in part), the reason for `allow` is given.
        for attribute in text.split(silenced).skip(1) {
            let attribute = attribute.split(")]").next().unwrap_or_default();
            if !attribute.contains("reason") {
                faults.push(format!("{}: {silenced}{attribute} without a reason", shown(&path)));
            }
        }
        for word in forbidden {
            if text.contains(word) {
                faults.push(format!("{}: {word}", shown(&path)));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_path_of_somebodys_machine_stands_in_the_repository() {
    let homes = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
        concat!("C:", "\\"),
    ];
    let ends = [
        ".rs",
        ".toml",
        ".sql",
        ".md",
        ".sh",
        ".yaml",
        ".yml",
        ".json",
        ".py",
        "up",
        "down",
        "test",
        "services",
        "run",
        "bench",
        "Dockerfile",
    ];
    let mut faults = Vec::new();
    for path in files(&root(), &ends) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for home in homes {
                // The end of a longer path, as in `.ci/../work/`, is none.
                let absolute = line.match_indices(home).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "._-}/*)".contains(c))
                });
                if absolute {
                    faults.push(format!("{}:{}: {}", shown(&path), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn sql_is_written_in_lower_case() {
    let shouting = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "CREATE ", " FROM ", " WHERE "];
    let mut faults = Vec::new();
    for path in files(&root(), &[".sql"]) {
        let text = fs::read_to_string(&path).expect("a file can be read");
        for line in text.lines().filter(|line| !line.trim_start().starts_with("--")) {
            for word in shouting {
                if line.contains(word) && !line.contains('\'') && !line.contains("--") {
                    faults.push(format!("{}: {}", shown(&path), line.trim()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn money_is_never_a_float_in_a_table() {
    let mut faults = Vec::new();
    for path in files(&root(), &[".sql"]) {
        let text = fs::read_to_string(&path).expect("a file can be read");
        for line in text.lines().map(|line| line.split("--").next().unwrap_or_default()) {
            let words: Vec<&str> = line
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|w| !w.is_empty())
                .collect();
            if words.iter().any(|word| ["float4", "float8", "real", "double"].contains(word)) {
                faults.push(format!("{}: {}", shown(&path), line.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
