//! Read models come, change and go on the command line while processes run and clients ask.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use daybook_tests::{Shop, order, until};
use serde_json::{Value, json};
use uuid::Uuid;

/// A copy of a shipped folder, which a test may change.
fn copy_of(name: &str, into: &Path) -> std::path::PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../projections").join(name);
    let to = into.join(name);
    for part in ["", "queries", "examples"] {
        fs::create_dir_all(to.join(part)).expect("a folder");
        for entry in fs::read_dir(from.join(part)).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_file() {
                let name = path.file_name().expect("a name");
                fs::copy(&path, to.join(part).join(name)).expect("copied");
            }
        }
    }
    to
}

fn rewrite(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("readable");
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).expect("written");
}

/// What `projections status --json` says of a read model, active version first.
async fn status(shop: &Shop, name: &str) -> Vec<Value> {
    let text = shop.installation.run_ok(&["projections", "status", "--json"]).await;
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter(|row| row["name"] == name)
        .collect()
}

#[tokio::test]
async fn a_read_model_changes_while_it_is_asked() {
    let shop = Shop::open(1_000_000).await;
    let folder = tempfile::tempdir().expect("a folder");
    let stock = copy_of("stock", folder.path());
    let dir = stock.to_str().expect("UTF-8");
    let run = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let installation = &shop.installation;
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            installation.run_ok(&arguments).await
        }
    };
    let said = run(&["projections", "check", dir]).await;
    assert!(said.contains("apply") && !said.contains("WRONG"), "{said}");
    assert!(run(&["projections", "add", dir]).await.contains("is there already"));

    // somebody asks all the time, and somebody orders
    let stop = Arc::new(AtomicBool::new(false));
    let asking = {
        let (client, stop) = (shop.operator.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let (mut last, mut asked) = (0_i64, 0);
            while !stop.load(Ordering::Relaxed) {
                let answer = client.get("/v1/operator/stock").await.ok();
                let position = answer.headers["daybook-position"].to_str().expect("ASCII");
                let position: i64 = position.parse().expect("a number");
                assert!(position >= last, "{position} after {last}");
                (last, asked) = (position, asked + 1);
            }
            asked
        })
    };
    let ordering = {
        let (client, stop) = (shop.customer.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut reserved = 0;
            while !stop.load(Ordering::Relaxed) {
                let _placed = client.once("PlaceOrder", &order(Uuid::new_v4(), 1)).await.ok();
                reserved += 1;
            }
            reserved
        })
    };

    // another fold, another column, another query; built, compared, switched to by hand
    rewrite(
        &stock.join("table.sql"),
        "name text,",
        "name text, touched bigint not null default 0,",
    );
    rewrite(
        &stock.join("apply.sql"),
        "r.updated_at := e.occurred_at;",
        "r.updated_at := e.occurred_at; r.touched := r.touched + 1;",
    );
    rewrite(
        &stock.join("queries/operator_stock.sql"),
        "select sku, name,",
        "select sku, name, touched,",
    );
    run(&["projections", "check", dir]).await;
    let said = run(&["projections", "add", dir, "--no-switch"]).await;
    assert!(said.contains("is being built"), "{said}");
    until("the new version has caught up", Duration::from_secs(30), || async {
        let rows = status(&shop, "stock").await;
        (rows.len() == 2 && rows[1]["position"].as_i64() > Some(5)).then_some(())
    })
    .await;
    let answer = shop.operator.get("/v1/operator/stock").await.ok().json();
    assert_eq!(answer["items"][0].get("touched"), None, "the old version answers");
    let said = run(&["projections", "diff", "stock"]).await;
    assert!(said.contains("touched: no column -> ") && said.contains("1 changed"), "{said}");
    let said = run(&["projections", "diff", "stock", "--format", "ndjson"]).await;
    let row: Value = serde_json::from_str(said.trim()).expect("one JSON object");
    assert_eq!(row["key"], json!({"sku": "MUG"}));
    let said = run(&["projections", "switch", "stock"]).await;
    assert!(said.contains("answers queries"), "{said}");
    let answer = shop.operator.get("/v1/operator/stock").await.ok().json();
    assert!(answer["items"][0]["touched"].as_i64() > Some(1), "{answer}");

    // a third one is switched to by itself
    rewrite(&stock.join("apply.sql"), "r.touched + 1", "r.touched + 1000000");
    run(&["projections", "add", dir]).await;
    until("the third version answers", Duration::from_secs(30), || async {
        let answer = shop.operator.get("/v1/operator/stock").await.ok().json();
        (answer["items"][0]["touched"].as_i64() >= Some(1_000_000)).then_some(())
    })
    .await;
    run(&["projections", "drop", "stock", "--retired"]).await;
    stop.store(true, Ordering::Relaxed);
    assert!(asking.await.expect("no query failed") > 20);
    let reserved = ordering.await.expect("no order failed");
    until("it has followed", Duration::from_secs(30), || async {
        let rows = status(&shop, "stock").await;
        (rows.len() == 1 && rows[0]["position"] == rows[0]["head"]).then_some(())
    })
    .await;
    let answer = shop.operator.get("/v1/operator/stock").await.ok().json();
    assert_eq!(answer["items"][0]["reserved"], json!(reserved));

    // and one goes, with its routes
    run(&["projections", "drop", "stock"]).await;
    until("its route is gone", Duration::from_secs(10), || async {
        (shop.operator.get("/v1/operator/stock").await.status == 404).then_some(())
    })
    .await;
    run(&["projections", "add", dir]).await;
    until("it is back", Duration::from_secs(30), || async {
        let answer = shop.operator.get("/v1/operator/stock").await;
        (answer.status == 200 && answer.json()["items"][0]["reserved"] == json!(reserved))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_in_a_folder_is_said_and_ends_with_failure() {
    let installation = daybook_tests::Installation::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let stock = copy_of("stock", folder.path());
    rewrite(&stock.join("projection.toml"), "StockShipped", "StockShiped");
    rewrite(&stock.join("apply.sql"), "StockReserved", "StockReservd");
    let dir = stock.to_str().expect("UTF-8");
    let output = installation.run(&["projections", "check", dir]).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("there is no event type StockShiped"), "{said}");
    assert!(said.contains("WRONG  example"), "{said}");
    for (arguments, wanted) in [
        (&["projections", "switch", "stok"][..], "there is no read model stok"),
        (&["projections", "switch", "stock", "--to", "zz"], "there is no version zz; there are "),
        (&["projections", "drop", "stock", "--version", ""], "switch to another one first"),
        (&["projections", "diff", "stock"], "there are"),
        (&["projections", "rebuild", "stok"], "there is no read model stok"),
    ] {
        let output = installation.run(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(wanted), "{arguments:?}: {said}");
    }
}
