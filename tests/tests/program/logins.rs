//! Each part of the program logs in to PostgreSQL as itself, and says what to do where it can't.

use std::{collections::BTreeSet, process::Output, time::Duration};

use daybook_tests::{Installation, Role, until};
use serde_json::json;

fn shown(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    texts.concat()
}

/// The output of a run that must fail.
fn refused(output: &Output) -> String {
    let text = shown(output);
    assert!(!output.status.success(), "it should have been refused: {text}");
    text
}

#[tokio::test]
async fn every_part_logs_in_as_itself_and_none_as_the_owner() {
    let installation = Installation::new().await;
    let database = installation.database();
    let admin = installation.connect().await;
    let users = || async {
        let sql = "select distinct usename::text from pg_stat_activity
            where datname = current_database() and backend_type = 'client backend'
                and pid <> pg_backend_pid()";
        let rows = admin.query(sql, &[]).await.expect("readable");
        rows.iter().map(|row| row.get(0)).collect::<BTreeSet<String>>()
    };
    let named = |roles: &[&str]| {
        roles.iter().map(|role| format!("{database}_{role}")).collect::<BTreeSet<_>>()
    };

    let all = installation.start("up").await;
    let operator = all.client(&installation.key(Role::Operator).await);
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let added = operator.once("AddProduct", &mug).await.ok();
    let _there = operator.get_at("/v1/operator/stock/MUG", &added.position()).await;
    let wanted = named(&["serve", "query", "relay", "project", "work"]);
    until("the logins of `up`", Duration::from_secs(20), || async {
        (users().await == wanted).then_some(())
    })
    .await;
    assert!(all.stop().await.success());

    for role in ["serve", "relay", "project", "work"] {
        let process = installation.start(role).await;
        // declared queries log in apart
        let wanted = if role == "serve" { named(&[role, "query"]) } else { named(&[role]) };
        until(&format!("the login of {role}"), Duration::from_secs(20), || async {
            (users().await == wanted).then_some(())
        })
        .await;
        assert!(process.stop().await.success());
    }
}

#[tokio::test]
async fn a_process_without_a_login_of_its_own_is_refused_by_name() {
    let installation = Installation::new().await;
    let empty = tempfile::tempdir().expect("a folder");
    let empty = empty.path().to_str().expect("its path is text");
    let owner = installation.database_url();
    for role in ["serve", "relay", "project", "work", "up"] {
        let variable = if role == "up" { "SERVE".to_owned() } else { role.to_uppercase() };
        let variable = format!("DAYBOOK_{variable}_DATABASE_URL");
        let output = installation.run_with(&[("DAYBOOK_SECRETS_DIR", empty)], &[role]).await;
        let text = refused(&output);
        let named = if role == "up" { "serve" } else { role };
        assert!(text.contains(&format!("role {named} has no login of its own")), "{text}");
        assert!(text.contains(&variable) && text.contains("daybook migrate"), "{text}");

        // Nor as the owner, where somebody says so.
        let text = refused(&installation.run_with(&[(&variable, &owner)], &[role]).await);
        assert!(text.contains(&format!("role {named}: login")), "{text}");
        assert!(text.contains("may change or delete events"), "{text}");
    }
    let import = ["import", "uci-retail", "no-such-file.csv"];
    let text = refused(&installation.run_with(&[("DAYBOOK_SECRETS_DIR", empty)], &import).await);
    assert!(text.contains("role import has no login of its own"), "{text}");
}

#[tokio::test]
async fn doctor_looks_at_each_login() {
    let installation = Installation::new().await;
    let fine = installation.run_ok(&["doctor"]).await;
    for role in ["serve", "query", "relay", "project", "work", "audit", "analyst", "import"] {
        let line = format!("as {}_{role}", installation.database());
        assert!(fine.contains(&line), "{fine}");
    }
    let admin = installation.connect().await;
    let database = installation.database();
    admin
        .batch_execute(&format!(
            "alter role {database}_relay password 'another'; \
             grant update (data) on journal.events to {database}_work"
        ))
        .await
        .expect("a superuser may");
    let text = refused(&installation.run(&["doctor"]).await);
    let wrong: Vec<&str> = text.lines().filter(|line| line.starts_with("WRONG")).collect();
    assert_eq!(wrong.len(), 2, "{text}");
    assert!(wrong[0].contains("login relay") && wrong[0].contains("password"), "{text}");
    assert!(wrong[1].contains("login work") && wrong[1].contains("may change"), "{text}");

    // Another folder's password is not silently put in place of the role's.
    let text = refused(&installation.run(&["migrate"]).await);
    assert!(text.contains("--reset-passwords") && text.contains("database-relay"), "{text}");
    installation.run_ok(&["migrate", "--reset-passwords"]).await;
    installation.run_ok(&["doctor"]).await;
}

#[tokio::test]
async fn where_the_owner_may_not_make_roles_the_sql_for_whoever_may_is_printed() {
    let installation = Installation::new().await;
    let database = format!("{}_b", installation.database());
    let admin = installation.connect().await;
    for statement in [
        format!("create role {database}_owner login password 'theirs'"),
        format!("create database {database} owner {database}_owner"),
    ] {
        admin.batch_execute(&statement).await.expect("a superuser may");
    }
    let serve = installation.login_url("serve");
    let (_, server) = serve.split_once('@').expect("it names a user");
    let server = server.replace(installation.database(), &database);
    let owner = format!("postgres://{database}_owner:theirs@{server}");
    let home = tempfile::tempdir().expect("a folder");
    let secrets = home.path().to_str().expect("its path is text");
    let ours = [("DAYBOOK_DATABASE_URL", owner.as_str()), ("DAYBOOK_SECRETS_DIR", secrets)];

    assert!(installation.run_with(&ours, &["secrets", "create"]).await.status.success());
    let output = installation.run_with(&ours, &["migrate"]).await;
    let text = refused(&output);
    assert!(text.contains(&format!("login {database}_owner may not make roles")), "{text}");
    assert!(text.contains("run `daybook migrate` again"), "{text}");
    for secret in std::fs::read_dir(home.path()).expect("it is there") {
        let secret = std::fs::read_to_string(secret.expect("readable").path()).expect("readable");
        assert!(!text.contains(secret.trim()), "no password stands in the output: {text}");
    }
    let text = refused(&installation.run_with(&ours, &["serve"]).await);
    assert!(text.contains(&format!("refuses login {database}_serve")), "{text}");

    // Whoever may runs what was printed; one login they name themselves.
    let stdout = String::from_utf8(output.stdout).expect("it is text");
    let sql: Vec<&str> = stdout
        .lines()
        .filter(|line| line.starts_with("create role") || line.starts_with("alter role"))
        .filter(|line| !line.contains("_relay"))
        .collect();
    assert!(sql.len() >= 6, "{stdout}");
    let relay = format!("{database}_their_relay");
    admin.batch_execute(&sql.concat()).await.expect("the SQL is right");
    let make = format!("create role {relay} login password 'r'");
    let url = format!("postgres://{relay}:r@{server}");
    let with_relay = [&ours[..], &[("DAYBOOK_RELAY_DATABASE_URL", url.as_str())]].concat();
    let text = refused(&installation.run_with(&with_relay, &["migrate"]).await);
    assert!(text.contains(&format!("login {relay}")) && text.contains("does not exist"), "{text}");
    admin.batch_execute(&make).await.expect("a superuser may");
    let text = refused(&installation.run_with(&with_relay, &["doctor"]).await);
    assert!(text.contains(&format!("login {relay}: it has no rights here yet")), "{text}");
    for arguments in [["migrate"], ["doctor"]] {
        let output = installation.run_with(&with_relay, &arguments).await;
        assert!(output.status.success(), "{}", shown(&output));
    }
    // The owner is nobody's login, also here.
    let with_owner = [&with_relay[..], &[("DAYBOOK_WORK_DATABASE_URL", owner.as_str())]].concat();
    let text = refused(&installation.run_with(&with_owner, &["migrate"]).await);
    assert!(text.contains("which owns the tables"), "{text}");

    let drop = format!("drop database {database} with (force)");
    admin.batch_execute(&drop).await.expect("a superuser may");
}

#[tokio::test]
async fn role_work_removes_what_has_expired() {
    let installation = Installation::new().await;
    let admin = installation.connect().await;
    admin.batch_execute(include_str!("sql/expired.sql")).await.expect("the tables are as expected");
    let all = installation.start("up").await;
    let left = until("the janitor", Duration::from_secs(30), || async {
        let sql = "select key from journal.commands union all select payload->>'name' \
            from journal.jobs order by 1";
        let rows = admin.query(sql, &[]).await.expect("readable");
        let left: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        (left.len() <= 4).then_some(left)
    })
    .await;
    assert_eq!(left, ["dead long ago", "done lately", "kept for ever", "still kept"]);
    let client = all.operations();
    until("the janitor's metrics", Duration::from_secs(10), || async {
        let metrics = client.get("/metrics").await.ok().text;
        let counted = ["commands", "jobs"].iter().all(|what| {
            let line = format!("daybook_janitor_removed_total{{what=\"{what}\"}} 1");
            metrics.lines().any(|found| found == line)
        });
        counted.then_some(())
    })
    .await;
    assert!(all.stop().await.success());
}

#[tokio::test]
async fn a_migration_takes_nothing_away_from_what_runs() {
    let installation = Installation::new().await;
    let all = installation.start("up").await;
    let operator = all.client(&installation.key(Role::Operator).await);
    let mug = json!({"sku": "MUG", "name": "Enamel mug", "price": 1250, "currency": "GBP"});
    let _added = operator.once("AddProduct", &mug).await.ok();
    let migrating = async {
        for _ in 0..4 {
            installation.run_ok(&["migrate"]).await;
        }
    };
    let stop = std::cell::Cell::new(false);
    let working = async {
        let mut received = 0;
        while !stop.get() {
            let answer = operator.once("ReceiveStock", &json!({"sku": "MUG", "quantity": 1})).await;
            let position = answer.ok().position();
            received += 1;
            let stock = operator.get_at("/v1/operator/stock/MUG", &position).await.ok().json();
            assert_eq!(stock["on_hand"], json!(received), "{stock}");
        }
        received
    };
    let ((), received) = tokio::join!(
        async {
            migrating.await;
            stop.set(true);
        },
        working
    );
    assert!(received > 0);
    assert!(all.stop().await.success());
}

/// What a running projector does when it lets analysts see another version, in the very moment in
/// which rights are granted.
#[tokio::test]
async fn rights_are_granted_while_read_models_change() {
    let installation = Installation::new().await;
    let mut owner = installation.connect().await;
    let changing = owner.transaction().await.expect("a transaction");
    let schema = "select schema from projection.active join projection.versions
                  using (projection, version) where projection = 'stock'";
    let schema: String = changing.query_one(schema, &[]).await.expect("it is there").get(0);
    let anew = format!(
        "drop view analyst.stock; create view analyst.stock as select * from {schema}.stock"
    );
    changing.batch_execute(&anew).await.expect("the owner may");
    let watching = installation.connect().await;
    let migrating = installation.spawn(&["migrate"]);
    until("the grants to wait for the view", Duration::from_mins(1), || async {
        let waiting = "select from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        let waiting = watching.query(waiting, &[]).await.expect("readable");
        (!waiting.is_empty()).then_some(())
    })
    .await;
    changing.commit().await.expect("committed");
    let migrated = migrating.wait_with_output().await.expect("it ends");
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stdout));
    let analyst = installation.connect_as("analyst").await;
    analyst.query("select from analyst.stock", &[]).await.expect("an analyst may read it");
}
