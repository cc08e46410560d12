use std::time::{Duration, Instant};
use crate::kit::{self, with_bed};

fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
#[tokio::test(flavor = "multi_thread")]
#[ignore]
async fn bench() {
    with_bed(1, async |bed| {
        let main = bed.tenant("main").await;
        let n = 200_000;
        let t = Instant::now(); let c0 = cpu();
        bed.append(&main, 1, n, 0).await;
        bed.execute("analyze journal.events").await;
        println!("append {:?}", t.elapsed());
        daybook_feed::ensure_topic(&bed.feed).await.unwrap();
        let t = Instant::now(); let c0 = cpu();
        let relay = bed.relay();
        bed.noted(&main, n).await;
        println!("relay cpu {} {:?} {:.0}/s", cpu()-c0, t.elapsed(), n as f64 / t.elapsed().as_secs_f64());
        let mut sub = bed.subscribe("b", &[&main]);
        let first = sub.next_batch(4000, kit::PATIENCE).await.unwrap().unwrap();
        let t = Instant::now(); let c0 = cpu();
        let mut got = first.events.len() as i64;
        let start = got;
        while got < n {
            if let Some(b) = sub.next_batch(4000, Duration::from_secs(5)).await.unwrap() { got += b.events.len() as i64; }
        }
        println!("sub cpu {} {:.0}/s", cpu()-c0, (n - start) as f64 / t.elapsed().as_secs_f64());
        let t = Instant::now(); let c0 = cpu();
        let mut all = daybook_feed::read_all(&bed.feed, &[(main.clone(), n)]).unwrap();
        let mut c = 0;
        while let Some(b) = all.next().await.unwrap() { c += b.events.len(); }
        println!("read_all cpu {} {c} {:.0}/s", cpu()-c0, n as f64 / t.elapsed().as_secs_f64());
        // latency
        let client = bed.pool.get().await.unwrap();
        let mut lat = vec![];
        for p in n + 1..n + 401 {
            bed.append(&main, p, p, 0).await;
            let t = Instant::now(); let c0 = cpu();
            client.execute("select pg_notify('daybook_journal', $1)", &[&format!("{}:{p}", main.id)]).await.unwrap();
            let b = sub.next_batch(100, kit::PATIENCE).await.unwrap().unwrap();
            assert_eq!(b.events.last().unwrap().position, p);
            lat.push(t.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        lat.sort();
        println!("latency p50 {:?} p99 {:?} max {:?}", lat[200], lat[396], lat[399]);
        relay.stop().await;
        sub.close().await;
    })
    .await;
}
