//! A broker whose data was repaired: groups and reads pass what is lost.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};

use support::{Folder, event, group, join, settle, topic};
use tidemill_broker::inspect::{plan_repair, repair, verify};
use tidemill_core::{Event, Order};

fn large(n: usize) -> Event {
    let builder = event(n, None).to_builder();
    builder.untyped_data(vec![b'7'; 10_000]).build().unwrap()
}

fn segment(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.find_map(|path| match path.is_dir() {
        true => segment(&path),
        false => path.extension()?.eq("log").then_some(path),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_on_behind_what_a_repair_could_not_save() {
    const COUNT: usize = 30;
    let folder = Folder::new();
    let broker = folder.open().await;
    for n in 0..COUNT {
        broker
            .bus()
            .publish(topic("t"), vec![large(n)])
            .await
            .unwrap();
    }
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    settle(member.as_mut(), 5).await;
    drop(member);
    broker.close().await;
    let path = segment(folder.path()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();

    let plan = plan_repair(folder.path(), |_| {}).unwrap();
    assert!(!plan.clean && !plan.done);
    let lost = &plan.lost[0];
    assert_eq!((&lost.topic, plan.lost.len()), (&Some(topic("t")), 1));
    assert!(!verify(folder.path(), |_| {}).unwrap().clean);
    let done = repair(folder.path(), |_| {}).unwrap();
    assert_eq!((done.done, &done.lost), (true, &plan.lost));
    assert!(verify(folder.path(), |_| {}).unwrap().clean);
    let aside: Vec<_> = done
        .aside
        .iter()
        .map(|path| folder.path().join(path))
        .collect();
    assert!(
        aside
            .iter()
            .any(|path| std::fs::read(path).unwrap() == bytes)
    );
    assert!(repair(folder.path(), |_| {}).unwrap().clean);

    let broker = folder.open().await;
    broker
        .bus()
        .publish(topic("t"), vec![large(COUNT)])
        .await
        .unwrap();
    let lost = lost.offsets.from as usize..lost.offsets.until as usize;
    let expected = (5..=COUNT)
        .filter(|n| !lost.contains(n))
        .map(|n| n.to_string());
    let expected: Vec<String> = expected.collect();
    let mut member = join(&broker, "g", "t", Order::PerKey).await;
    assert_eq!(settle(member.as_mut(), expected.len()).await, expected);
    let info = broker.group(&group("g")).unwrap();
    assert_eq!((info.lag(), info.partitions[0].damage.as_ref()), (0, None));
    broker.close().await;
}
