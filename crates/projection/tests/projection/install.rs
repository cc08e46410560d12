//! Installing is safe to repeat, and starts anew what has changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::kit::{Database, Running, append, caught_up, history::History, rows, shipped};

#[tokio::test]
async fn installing_twice_changes_nothing() {
    let database = Database::new().await;
    let mut client = database.client().await;
    daybook_projection::install(&mut client, &shipped()).await.unwrap();
    let made = "select array_agg(oid order by oid)::text from pg_proc
                where pronamespace::regnamespace::text like 'read\\_%'";
    let before: String = client.query_one(made, &[]).await.unwrap().get(0);
    daybook_projection::install(&mut client, &shipped()).await.unwrap();
    let after: String = client.query_one(made, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
}

#[tokio::test]
async fn an_installation_of_the_layout_before_is_taken_over_and_folded_again() {
    let database = Database::new().await;
    let mut client = database.client().await;
    append(&client, 1, &History::of_length(41, 200).events).await;
    // back to what an installation had, with a read model, its view and where it stood
    client
        .batch_execute(&format!(
            "drop schema projection cascade; {} {}
             create table read.stock (tenant integer, sku text, primary key (tenant, sku));
             create function read.stock__advance(e read.event) returns integer
                 language sql as 'select 1';
             create view analyst.stock as select * from read.stock;
             insert into projection.definitions (projection, definition, engine, title)
                 values ('stock', 'old', 'old', 'Stock');
             insert into projection.checkpoints (projection, tenant, position)
                 values ('stock', 1, 17);",
            include_str!("../../migrations/V1__projection.sql"),
            include_str!("../../migrations/V2__staging.sql"),
        ))
        .await
        .unwrap();
    // and all that came after
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let later = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let number = |path: &PathBuf| -> u32 {
        let name = path.file_name().unwrap().to_str().unwrap();
        name[1..].split("__").next().unwrap().parse().unwrap()
    };
    let mut later: Vec<_> = later.filter(|path| number(path) > 2).collect();
    later.sort_by_key(number);
    assert!(later.len() > 1);
    for path in later {
        client.batch_execute(&fs::read_to_string(path).unwrap()).await.unwrap();
    }
    daybook_projection::install(&mut client, &shipped()).await.unwrap();
    let running = Running::start(&database).await;
    caught_up(&database, &[]).await;
    running.stop().await;
    assert_eq!(rows(&client, "stock").await.len(), 6);
    let old =
        "select to_regnamespace('read') is null and to_regclass('projection.definitions') is null";
    assert!(client.query_one(old, &[]).await.unwrap().get::<_, bool>(0));
}
