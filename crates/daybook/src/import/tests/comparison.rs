//! `scripts/verify-uci-retail` works everything out a second time, in another language and by
//! other ways: both must say the same of a file that has every odd thing in it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use super::super::{
    plan::Plan,
    report::{Report, Took},
    row::HEADER,
    send::Tally,
    source::Contents,
};

const ROWS: [&str; 24] = [
    "536365,85123A,HEART ,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
    "536365,POST,POSTAGE,1,2010-12-01 08:26:00,18,17850.0,United Kingdom",
    "542806,85123a,HEART,2,2011-03-27 02:00:00,2.50,17850.0,France",
    "542807,22423,\"CAKE \"\"STAND\"\", £\",3,2011-03-27 02:00:00,12.75,17850.0,France",
    "542806,22423,CAKE,1,2011-03-27 02:01:00,12.75,17850.0,France",
    "542808,22423,,-3,2011-04-01 00:10:00,0,,United Kingdom",
    "542808,22423,CAKE,1,2011-04-01 00:10:00,12.75,,United Kingdom",
    "542809,22423,free,1,2011-04-01 00:10:00,0.00,17850.0,United Kingdom",
    "C542810,22423,CAKE,-4,2011-04-02 00:10:00,20.00,17850.0,France",
    "C542810,POST,POSTAGE,-1,2011-04-02 00:10:00,20.00,17850.0,France",
    "C542811,85123A,HEART,-7,2011-04-02 00:10:00,2.55,17850.0,France",
    "C542812,85123A,HEART,-1,2011-04-02 00:10:00,2.55,,France",
    "A563185,B,Adjust bad debt,1,2011-08-12 14:50:00,11062.06,,United Kingdom",
    "A563186,B,Adjust bad debt,1,2011-08-12 14:51:00,-11062.06,,United Kingdom",
    "563187,DOT,,5,2011-08-12 14:50:00,0,,United Kingdom",
    "563188,PADS,PADS,1,2011-10-30 01:30:00,0.001,13952.0,United Kingdom",
    "536365,85123A,\"HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
    "536365,85123A,HEART,6,2010-12-01 08:26:00,2.55,17851.0,United Kingdom",
    "536365,85123A,HEART,0,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
    "536365,85123A,HEART,6,2011-03-27 01:30:00,2.55,17850.0,United Kingdom",
    "536365,85123A,HEART,6,2010-12-01 08:26:00,2.5555,17850.0,United Kingdom",
    "536365,85123A,HEART,6,2010-12-01 08:26:00,-2.55,17850.0,United Kingdom",
    "536365,,HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
    "",
];

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name)
}

/// `None` where there is no Python.
fn python(script: &Path, arguments: &[&Path]) -> Option<Output> {
    Command::new("python3").arg(script).args(arguments).output().ok()
}

#[test]
fn both_programs_say_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let [file, json] = ["file.csv", "report.json"].map(|name| directory.path().join(name));
    std::fs::write(&file, format!("{}\n{}\n", HEADER.join(","), ROWS.join("\n"))).unwrap();
    let plan = Plan::new(Contents::read(&file).unwrap());
    plan.check();
    assert_eq!((plan.bad.len(), plan.skipped.len(), plan.differences.len()), (8, 5, 2));

    let took = Took { read: Duration::ZERO, send: Duration::ZERO, by_tenth: Vec::new() };
    let report = Report::new(&plan, Tally::default(), took);
    let mut report = serde_json::to_value(&report).unwrap();
    let compare = |report: &serde_json::Value| {
        std::fs::write(&json, report.to_string()).unwrap();
        let arguments = [&file, Path::new("--no-server"), Path::new("--report"), &json];
        python(&script("verify-uci-retail"), &arguments)
    };
    let Some(same) = compare(&report) else { return };
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    report["totals"]["returns_credited"] = 1.into();
    assert_eq!(compare(&report).unwrap().status.code(), Some(1), "a difference is found");
}

#[test]
fn the_comparison_finds_what_is_wrong() {
    let Some(output) = python(&script("verify-uci-retail-test"), &[]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
