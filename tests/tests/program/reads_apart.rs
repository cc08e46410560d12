//! Read models in a PostgreSQL of their own: everything passes through, and whatever happens to that
//! database, commands go on and the rows come back.

use std::{collections::BTreeMap, time::Duration};

use daybook_tests::{Cluster, Installation, Role, Shop, charge, order, problem_code, until};
use serde_json::json;
use uuid::Uuid;

/// Longest wait for what must come.
const SOON: Duration = Duration::from_mins(1);

/// How many rows a rebuild of every read model changes.
async fn changed_by_rebuild(installation: &Installation, source: &str) -> u64 {
    let said = installation.run_ok(&["projections", "rebuild", "--all", "--from", source]).await;
    let changed = said.lines().map(|line| {
        let (before, _) = line.split_once(" rows changed").unwrap_or_else(|| panic!("{said}"));
        before.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")
    });
    changed.sum()
}

/// Waits until every read model stands at the journal's head.
async fn caught_up(installation: &Installation) {
    until("every read model to be at the head", SOON, || async {
        let said = installation.run_ok(&["projections", "status", "--json"]).await;
        let mut rows = said.lines().map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("a JSON object a line")
        });
        rows.all(|row| row["position"] == row["head"] && row["error"].is_null()).then_some(())
    })
    .await;
}

/// Answers as of a position and a time: of one order, from its own streams, and of all sales, from the
/// whole journal.
async fn looks_back(shop: &Shop, id: Uuid, paid: &str) {
    let sales = "/v1/operator/sales/by-day";
    let order = format!("/v1/operator/orders/{id}");
    let journal = shop.installation.connect().await;
    let event = journal
        .query_one(
            "select position, to_char(recorded_at at time zone 'UTC',
                                      'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
             from journal.events where type = 'OrderPlaced'",
            &[],
        )
        .await
        .expect("the order's event");
    let (position, time): (i64, String) = (event.get(0), event.get(1));
    let placed = position.to_string();
    for (as_of, status) in [(placed.as_str(), "placed"), (&time, "placed"), (paid, "paid")] {
        let then = shop.operator.get(&format!("{order}?as_of={as_of}")).await.ok().json();
        assert_eq!(then["status"], status, "as of {as_of}: {then}");
        let then = shop.operator.get(&format!("{sales}?as_of={as_of}")).await.ok().json();
        assert_eq!(then["items"].as_array().map(Vec::len), Some(1), "as of {as_of}: {then}");
    }
    let before = position - 1;
    assert_eq!(shop.operator.get(&format!("{order}?as_of={before}")).await.status, 404);
    let none = shop.operator.get(&format!("{sales}?as_of={before}")).await.ok().json();
    assert_eq!(none["items"], json!([]));
    let now = shop.operator.get_at(sales, paid).await.ok().json();
    assert_eq!(shop.operator.get(&format!("{sales}?as_of={paid}")).await.ok().json(), now);
}

/// An order passes from the command through both databases to a query, and the tools work.
async fn everything_passes_through(installation: Installation) {
    let shop = Shop::open_on(installation, 10).await;
    let id = Uuid::new_v4();
    let path = format!("/v1/web/orders/{id}");
    let placed = shop.customer.once("PlaceOrder", &order(id, 2)).await.ok();
    let view = shop.customer.get_at(&path, &placed.position()).await.ok();
    assert_eq!(view.json()["status"], "placed", "{}", view.text);
    let mut live = shop.customer.follow(&format!("{path}/live")).await;
    assert_eq!(live.next().await["status"], "placed");
    let _paid = shop.customer.once("ChargePayment", &charge(id, 2500, "tok_success")).await.ok();
    let shown =
        tokio::time::timeout(SOON, async { while live.next().await["status"] != "paid" {} });
    shown.await.expect("who follows the order sees it paid");
    let paid = shop.installation.head().await.to_string();
    let view = shop.customer.get(&path).await.ok();
    assert_eq!(view.json()["status"], "paid", "{}", view.text);
    assert_eq!(shop.stranger.get(&path).await.status, 404);
    looks_back(&shop, id, &paid).await;

    // Nothing of the read models is in the journal's database, and nothing of the journal there.
    let here = shop.installation.connect().await;
    let none = "select to_regclass('projection.versions') is null";
    assert!(here.query_one(none, &[]).await.expect("readable").get::<_, bool>(0));
    let there = shop.installation.connect_reads().await;
    let none = "select count(*) = 0 from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where nspname in ('journal', 'identity', 'feed', 'sandbox')";
    assert!(there.query_one(none, &[]).await.expect("readable").get::<_, bool>(0));
    let sql = "select status from analyst.orders";
    let analyst = shop.installation.connect_reads_as("analyst").await;
    assert_eq!(analyst.query_one(sql, &[]).await.expect("readable").get::<_, String>(0), "paid");

    let installation = &shop.installation;
    caught_up(installation).await;
    for source in ["journal", "kafka"] {
        assert_eq!(changed_by_rebuild(installation, source).await, 0, "{source}");
    }
    there.batch_execute("delete from analyst.orders").await.expect("a superuser may");
    assert_eq!(changed_by_rebuild(installation, "journal").await, 1);
    let doctor = installation.run(&["doctor"]).await;
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success(), "{said}");
    for what in ["read serve", "read query", "read project", "read analyst", "read server"] {
        assert!(said.contains(&format!("ok     {what}")), "{what}: {said}");
    }

    // Another version is built beside the one that answers, compared and switched to.
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("stock");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../projections/stock");
    let copied = std::process::Command::new("cp").arg("-r").arg(shipped).arg(&copy).status();
    assert!(copied.expect("cp can be run").success());
    let apply = std::fs::read_to_string(copy.join("apply.sql")).expect("readable");
    std::fs::write(copy.join("apply.sql"), format!("{apply}\n-- another version\n"))
        .expect("written");
    let copy = copy.to_str().expect("UTF-8");
    installation.run_ok(&["projections", "check", copy]).await;
    installation.run_ok(&["projections", "add", copy, "--no-switch"]).await;
    caught_up(installation).await;
    let diff = installation.run_ok(&["projections", "diff", "stock"]).await;
    assert!(diff.contains("1 rows the same, 0 changed, 0 gone, 0 new"), "{diff}");
    installation.run_ok(&["projections", "switch", "stock"]).await;
    let stock = shop.mugs_at(&paid).await;
    assert_eq!(stock["on_hand"], 10, "{stock}");
    installation.run_ok(&["migrate"]).await;
    shop.installation.check_journal().await;
}

#[tokio::test]
async fn an_order_passes_through_two_databases_of_one_server() {
    everything_passes_through(Installation::with_reads_apart(None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_passes_through_two_servers() {
    let cluster = Cluster::start();
    everything_passes_through(Installation::with_reads_apart(Some(cluster.url())).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_read_models_server_is_killed_commands_go_on_and_the_rows_come_right() {
    let cluster = Cluster::start();
    let installation = Installation::with_reads_apart(Some(cluster.url())).await;
    let shop = Shop::open_on(installation, 1_000).await;
    let mut last = String::new();
    for round in 0..3 {
        // killed while events are on their way into the rows
        for n in 0..40 {
            let placed = shop.customer.once("PlaceOrder", &order(Uuid::new_v4(), 1)).await.ok();
            last = placed.position();
            if n == 20 + round {
                cluster.kill();
            }
        }
        let down = shop.operator.get("/v1/operator/stock/MUG").await;
        assert_eq!((down.status, problem_code(&down).as_str()), (503, "unavailable"));
        cluster.start_again();
        let stock = until("the rows to follow again", SOON, || async {
            let stock = shop.operator.get_at("/v1/operator/stock/MUG", &last).await;
            (stock.status == 200).then(|| stock.json())
        })
        .await;
        assert_eq!(stock["reserved"], 40 * (round + 1), "{stock}");
    }
    caught_up(&shop.installation).await;
    assert_eq!(changed_by_rebuild(&shop.installation, "journal").await, 0);
    assert_eq!(changed_by_rebuild(&shop.installation, "kafka").await, 0);
    shop.installation.check_journal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_read_models_are_made_anew_while_everything_runs() {
    let shop = Shop::open_on(Installation::with_reads_apart(None).await, 100).await;
    let mut orders = BTreeMap::new();
    for quantity in 1..=5 {
        let id = Uuid::new_v4();
        let placed = shop.customer.once("PlaceOrder", &order(id, quantity)).await.ok();
        orders.insert(id, (quantity, placed.position()));
    }
    caught_up(&shop.installation).await;
    shop.installation.lose_reads().await;
    let id = Uuid::new_v4();
    let placed = shop.customer.once("PlaceOrder", &order(id, 6)).await.ok();
    orders.insert(id, (6, placed.position()));
    shop.installation.run_ok(&["migrate"]).await;
    caught_up(&shop.installation).await;
    for (id, (quantity, position)) in orders {
        let view = until("the order to be there again", SOON, || async {
            let path = format!("/v1/web/orders/{id}");
            let view = shop.customer.get_at(&path, &position).await;
            (view.status == 200).then(|| view.json())
        })
        .await;
        assert_eq!(view["total"], json!(1250 * quantity), "{view}");
    }
    assert_eq!(changed_by_rebuild(&shop.installation, "kafka").await, 0);
}

#[tokio::test]
async fn a_database_with_a_journal_of_its_own_is_no_place_for_read_models() {
    let installation = Installation::new().await;
    let own = installation.database_url();
    let output =
        installation.run_with(&[("DAYBOOK_READ_DATABASE_URL", own.as_str())], &["migrate"]).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("setting read_database_url names a database with a journal"), "{said}");
}

/// Nobody reaches the database any more, or everybody again.
async fn reach(by: &tokio_postgres::Client, database: &str, may: bool) {
    by.batch_execute(&format!("alter database {database} allow_connections {may}"))
        .await
        .expect("a superuser may");
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = $1 and pid <> pg_backend_pid()";
    let ended = if may { Ok(Vec::new()) } else { by.query(end, &[&database]).await };
    ended.expect("a superuser may");
}

#[tokio::test]
async fn readiness_names_which_of_the_two_databases_is_away() {
    let installation = Installation::with_reads_apart(None).await;
    let server = installation.start("serve").await;
    let operator = server.client(&installation.key(Role::Operator).await);
    let states = |journal: &str, read_models: &str| {
        json!({"postgresql": {"state": journal, "required": true},
               "read_database": {"state": read_models, "required": false}})
    };
    // what operations see; everybody else sees the status alone
    let shown = async |what: &str, status: u16, states: serde_json::Value| {
        let found = async || {
            let answer = server.operations().get("/readyz").await;
            let mut parts = answer.json()["parts"].clone();
            parts.as_object_mut()?.remove("writer");
            (answer.status == status && parts == states).then_some(())
        };
        until(what, SOON, found).await;
        let public = server.client("").get("/readyz").await;
        assert_eq!(public.json(), json!({"ready": status == 200}));
    };
    let journal = installation.connect().await;
    let reads = installation.connect_reads().await;
    let name = "select current_database()::text";
    let name_of_reads: String = reads.query_one(name, &[]).await.expect("it has a name").get(0);
    shown("both to be there", 200, states("ok", "ok")).await;

    reach(&journal, &name_of_reads, false).await;
    shown("the read models' to be away", 200, states("ok", "unreachable")).await;
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = operator.once("AddProduct", &mug).await.ok();
    assert_eq!(operator.get("/v1/operator/stock").await.status, 503);
    reach(&journal, &name_of_reads, true).await;
    shown("the read models' to be back", 200, states("ok", "ok")).await;
    until("queries to be answered", SOON, async || {
        (operator.get("/v1/operator/stock").await.status == 200).then_some(())
    })
    .await;

    let reads = installation.connect_reads().await;
    reach(&reads, installation.database(), false).await;
    shown("the journal's to be away", 503, states("unreachable", "ok")).await;
    reach(&reads, installation.database(), true).await;
    shown("the journal's to be back", 200, states("ok", "ok")).await;
}
