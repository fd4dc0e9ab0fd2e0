//! The demo as the command line runs it: on a bus in memory, and on disk over two runs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::future::{pending, ready};
use std::time::Duration;

use support::{disk_bus, memory_bus, real_file, small_file};
use tidemill_shop::database::Place;
use tidemill_shop::demo::{self, DemoError, DemoOptions, DemoReport, Format, Http, Load};
use tidemill_shop::shop::ShopOptions;
use tidemill_shop::source::Traffic;
use tidemill_shop::stock::Opening;

fn options(place: Place, load: Load) -> DemoOptions {
    let mut shop = ShopOptions {
        opening: Opening {
            seed: 1,
            least: 20_000,
            most: 30_000,
        },
        ..ShopOptions::default()
    };
    shop.cards.decline_one_in = 20;
    DemoOptions {
        place,
        shop,
        load,
        run_for: None,
        http: None,
        format: Format::Text,
    }
}

fn traffic(rate: u32) -> Load {
    Load::Traffic {
        traffic: Traffic::default(),
        rate,
    }
}

async fn run(bus: tidemill::Bus, options: DemoOptions) -> (DemoReport, String) {
    let mut output = Vec::new();
    let report = demo::run(bus, options, &mut output, pending()).await;
    let output = String::from_utf8(output).unwrap();
    let report = report.unwrap();
    assert!(report.is_success(), "{output}\n{report:?}");
    (report, output)
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_in_memory_ends_with_an_even_account() {
    let mut options = options(Place::Memory, traffic(200));
    options.run_for = Some(Duration::from_millis(2_500));
    options.http = Some(Http {
        address: "127.0.0.1:0".parse().unwrap(),
        or_free: false,
    });
    let (report, output) = run(memory_bus().await, options).await;
    assert!(report.log.accepted > 200, "{report:?}");
    assert_eq!(report.ended, report.log.accepted);
    assert!(report.times.p50_us > 0 && report.times.p99_us >= report.times.p50_us);
    assert!(report.balance.cancelled > 0, "{report:?}");
    assert!(output.contains("shop: http://127.0.0.1:"), "{output}");
    assert!(output.contains("\n    2s  published"), "{output}");
    assert!(
        output.ends_with("nothing lost, nothing doubled\n"),
        "{output}"
    );
}

/// An output that takes no summary.
struct Full;

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match bytes.starts_with(b"after ") {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_that_cannot_be_written_says_how_all_went() {
    let load = Load::Replay {
        file: small_file(),
        rejects: tempfile::tempdir().unwrap().path().join("rejects.csv"),
    };
    let bus = memory_bus().await;
    let mut output = Full;
    let run = demo::run(bus, options(Place::Memory, load), &mut output, pending());
    let ended = run.await.unwrap_err();
    let untold = matches!(&ended, DemoError::Untold { success: true, .. });
    assert!(untold, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn started_again_on_the_same_data_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("shop"));
    let mut all = 0;
    for _ in 0..2 {
        let bus = disk_bus(folder.path()).await;
        let mut options = options(place.clone(), traffic(100));
        options.run_for = Some(Duration::from_millis(1_200));
        options.format = Format::Json;
        let (report, output) = run(bus, options).await;
        assert!(report.log.accepted > all, "{report:?}");
        all = report.log.accepted;
        let last: serde_json::Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
        assert_eq!(last["summary"]["log"]["accepted"], all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_replayed_twice_on_disk_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("shop"));
    let rejects = folder.path().join("rejects.csv");
    let load = Load::Replay {
        file: small_file(),
        rejects: rejects.clone(),
    };
    let mut before: Option<(DemoReport, String)> = None;
    for _ in 0..2 {
        let bus = disk_bus(folder.path()).await;
        let (report, _) = run(bus, options(place.clone(), load.clone())).await;
        let rows = std::fs::read_to_string(&rejects).unwrap();
        assert_eq!(
            report.replay.unwrap().refused + 1,
            rows.lines().count() as u64
        );
        if let Some((first, first_rows)) = &before {
            assert_eq!(report.balance, first.balance);
            assert_eq!((report.log, report.replay), (first.log, first.replay));
            assert_eq!(rows, *first_rows);
            assert_eq!(report.published, 0);
        }
        before = Some((report, rows));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_replay_is_drained_and_the_next_one_takes_in_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let rejects = folder.path().join("rejects.csv");
    let load = Load::Replay {
        file: real_file().unwrap_or_else(small_file),
        rejects: rejects.clone(),
    };
    let options = options(Place::Folder(folder.path().join("shop")), load);
    let mut output = Vec::new();
    // Stopped as soon as the first orders were taken in.
    let bus = disk_bus(folder.path()).await;
    let mut watch = bus.watch().unwrap();
    let first_order = async {
        loop {
            let advanced = watch.next().await.unwrap();
            if advanced.iter().any(|a| a.topic.as_str() == "orders") {
                return;
            }
        }
    };
    let stopped = demo::run(bus.clone(), options.clone(), &mut output, first_order);
    let stopped = stopped.await.unwrap();
    assert!(stopped.is_success(), "{stopped:?}");
    drop((bus, watch));
    let so_far = stopped.file.unwrap();
    assert!(so_far.invoices > 0 && so_far.line > 1, "{so_far:?}");
    let (whole, _) = run(disk_bus(folder.path()).await, options).await;
    let tally = whole.replay.unwrap();
    assert_eq!(
        tally.invoices - whole.log.accepted,
        u64::from(tally.lines < 100)
    );
    assert!(stopped.log.accepted > 0 && stopped.log.accepted <= whole.log.accepted);
    assert!(rejects.exists() && !folder.path().join("rejects.csv.part").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_broken_off_says_so_and_what_became_of_its_reject_file() {
    let folder = tempfile::tempdir().unwrap();
    let rejects = folder.path().join("rejects.csv");
    let load = Load::Replay {
        file: small_file(),
        rejects: rejects.clone(),
    };
    let options = options(Place::Folder(folder.path().join("shop")), load);
    let bus = memory_bus().await;
    let broken_off = async || {
        let mut output = Vec::new();
        let run = demo::run(bus.clone(), options.clone(), &mut output, ready(()));
        assert!(run.await.unwrap().replay.is_none());
        String::from_utf8(output).unwrap()
    };
    let first = broken_off().await;
    assert!(first.contains("broken off before its first"), "{first}");
    assert!(first.contains("there is none yet"), "{first}");
    run(bus.clone(), options.clone()).await;
    let rows = std::fs::read_to_string(&rejects).unwrap();
    let again = broken_off().await;
    assert!(again.contains("is of an earlier replay"), "{again}");
    assert_eq!(std::fs::read_to_string(&rejects).unwrap(), rows);
    assert!(!folder.path().join("rejects.csv.part").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn invoices_that_changed_since_they_were_taken_in_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    let load = Load::Replay {
        file: file.clone(),
        rejects: folder.path().join("rejects.csv"),
    };
    let options = options(Place::Folder(folder.path().join("shop")), load);
    let bus = memory_bus().await;
    let text = std::fs::read_to_string(small_file()).unwrap();
    std::fs::write(&file, &text).unwrap();
    let (first, output) = run(bus.clone(), options.clone()).await;
    assert_eq!(first.file.unwrap().changed, 0);
    assert!(!output.contains("changed"), "{output}");
    // One piece more on one line, and one invoice that is new.
    let more = "700999,10001,BLUE ENAMEL MUG,1,03-02-2024 09:00,4.25,,Utopia\n";
    let text = text.replace("LANTERN ,24,", "LANTERN ,25,") + more;
    std::fs::write(&file, text).unwrap();
    let (second, output) = run(bus, options).await;
    assert_eq!(second.file.unwrap().changed_invoices, ["700002"]);
    assert!(output.contains("taken in (700002); what was"), "{output}");
    assert_eq!(second.log.accepted, first.log.accepted + 1);
    let sold = second.balance.sold_pence - first.balance.sold_pence;
    assert_eq!(sold, 425);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_file_is_taken_in_whole() {
    let Some(file) = real_file() else { return };
    let folder = tempfile::tempdir().unwrap();
    let load = Load::Replay {
        file,
        rejects: folder.path().join("rejects.csv"),
    };
    let mut options = options(Place::Folder(folder.path().join("shop")), load);
    options.shop.cards.decline_one_in = 0;
    let bus = disk_bus(folder.path()).await;
    let (report, output) = run(bus, options).await;
    println!("{output}");
    let tally = report.replay.unwrap();
    assert_eq!((tally.lines, tally.invoices), (10_000, 512));
    assert_eq!((tally.accepted, tally.refused), (9_954, 46));
    let balance = &report.balance;
    assert_eq!(report.log.accepted, 512);
    assert_eq!(
        (balance.confirmed, balance.returned, balance.empty),
        (424, 43, 45)
    );
    assert_eq!(balance.sold_pence, tally.ordered_pence);
    assert_eq!(balance.credited_pence, tally.credited_pence);
    assert_eq!(balance.matched_lines, 10);
}
