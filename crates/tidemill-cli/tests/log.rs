//! `tidemill log` as a user meets it: what it finds, what it shows, how it ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::Path;

use support::data::{file, written};
use support::{Ended, Server, ended, raise_format_version, run, tidemill};

fn path(data: &tempfile::TempDir) -> &str {
    data.path().to_str().unwrap()
}

fn json(out: &str) -> Vec<serde_json::Value> {
    let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn a_clean_folder_ends_with_0_and_damage_with_1_and_the_topics_name() {
    let data = written();
    let clean = run(&["log", "verify", "--data", path(&data)]).done();
    assert!(clean.ends_with("clean\n"), "{clean}");
    let report = run(&["log", "verify", "--data", path(&data), "--json"]).done();
    let report = json(&report).pop().unwrap();
    assert_eq!(
        (&report["type"], &report["clean"]),
        (&"report".into(), &true.into())
    );
    assert_eq!(report["counts"]["records"], 40);

    let segment = file(data.path(), ".log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let ended = run(&["log", "verify", "--data", path(&data)]);
    assert!(ended.out.contains("orders/0, offsets 0 until"), "{ended:?}");
    assert!(ended.failed().contains("damage"));
    let ended = run(&["log", "verify", "--data", path(&data), "--json"]);
    let finding = &json(&ended.out)[0];
    assert_eq!(finding["type"], "finding");
    assert_eq!(
        (&finding["topic"], &finding["byte"]),
        (&"orders".into(), &0.into())
    );
    ended.failed();
}

#[test]
fn what_cannot_be_verified_is_wrong_use_and_says_why() {
    let data = tempfile::tempdir().unwrap();
    let none = run(&["log", "verify", "--data", path(&data)]).misused();
    assert!(none.contains("no log"), "{none}");
    let missing = data.path().join("missing");
    let missing = run(&["log", "dump", "--data", missing.to_str().unwrap()]).misused();
    assert!(missing.contains("no such folder"), "{missing}");

    let server = Server::start(data.path());
    let pid = server.running.pid().to_string();
    for command in ["verify", "dump"] {
        let locked = run(&["log", command, "--data", path(&data)]).misused();
        assert!(locked.contains(&pid), "{locked}");
    }
    server.running.stop("TERM").done();
    for name in ["superblock.0", "superblock.1"] {
        let path = data.path().join(name);
        let mut block = std::fs::read(&path).unwrap();
        raise_format_version(&mut block);
        std::fs::write(&path, block).unwrap();
    }
    let newer = run(&["log", "verify", "--data", path(&data)]).misused();
    assert!(newer.contains("newer version"), "{newer}");
}

#[test]
fn a_dump_names_topics_and_keeps_payloads_to_itself_until_asked() {
    let data = written();
    let text = run(&["log", "dump", "--data", path(&data)]).done();
    for thing in [
        "superblock",
        "chunk",
        "commit",
        "topic=orders",
        "topic created",
    ] {
        assert!(text.contains(thing), "{thing} in {text}");
    }
    assert!(!text.contains("secret"));
    let dump = |more: &[&str]| {
        let words = [&["log", "dump", "--json", "--data", path(&data)], more].concat();
        json(&run(&words).done())
    };
    assert_eq!(dump(&["--max", "3"]).len(), 3);
    let segment = file(data.path(), ".log");
    let segment = segment.strip_prefix(data.path()).unwrap().to_str().unwrap();
    let lines = dump(&[segment, "--from", "38", "--payloads"]);
    let records: Vec<_> = lines
        .iter()
        .filter(|line| line["type"] == "record")
        .collect();
    assert_eq!(records.len(), 2, "{lines:?}");
    assert_eq!(records[0]["offset"], 38);
    assert_eq!(records[0]["value"]["text"], "{\"secret\":7}");
    let wrong = run(&["log", "dump", "--data", path(&data), "lock"]).misused();
    assert!(wrong.contains("no file of a log"), "{wrong}");
}

#[test]
fn a_backup_is_taken_verified_and_restored_and_what_is_none_is_refused() {
    let data = written();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (to, back) = (at("backup"), at("back"));
    let taken = run(&["log", "backup", "--data", path(&data), "--to", &to]).done();
    assert!(taken.contains("log restore --from"), "{taken}");
    let again = run(&["log", "backup", "--data", path(&data), "--to", &to]).misused();
    assert!(again.contains("new or empty"), "{again}");
    for opening in [
        &["topic", "list", "--data", &to][..],
        &["subscribe", "orders", "--data", &to],
        &["publish", "orders", "x", "--data", &to],
        &["serve", "--http", "127.0.0.1:0", "--data", &to],
        &["bench", "--for", "1s", "--data", &to],
    ] {
        let refused = run(opening).failed();
        assert!(
            refused.contains("log restore --from"),
            "{opening:?}: {refused}"
        );
    }
    let restore = ["log", "restore", "--from", &to, "--data", &back, "--json"];
    let restored = json(&run(&restore).done());
    assert!(restored[0]["files"].as_u64().unwrap() > 3, "{restored:?}");
    let over = run(&restore).misused();
    assert!(over.contains("new or empty"), "{over}");
    run(&["log", "verify", "--data", &back]).done();
    let server = Server::start(place.path().join("back").as_path());
    let read = ["subscribe", "orders", "--from", "beginning", "--max", "80"];
    let events = server.run(&read).done();
    assert_eq!(events.lines().count(), 80, "{events}");
    server.running.stop("TERM").done();

    let none = run(&["log", "restore", "--from", &back, "--data", &at("c")]).misused();
    assert!(none.contains("no backup.manifest"), "{none}");
    let file = file(&place.path().join("backup"), ".journal");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let changed = run(&["log", "restore", "--from", &to, "--data", &at("d")]).misused();
    assert!(changed.contains("damaged"), "{changed}");
    let half = run(&["log", "verify", "--data", &at("d")]);
    assert!(half.out.contains("unreadable"), "{half:?}");
    half.failed();
}

#[test]
fn a_running_server_takes_a_backup_of_its_own_data() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (data, backups, back) = (at("data"), at("backups"), at("back"));
    let server = Server::start_with(data.as_ref(), &["--backups", &backups]);
    server
        .run(&["publish", "orders", "x", "--count", "5"])
        .done();
    let busy = run(&["log", "backup", "--data", &data, "--to", &at("to")]).misused();
    assert!(busy.contains("--server"), "{busy}");
    let taken = server.run(&["log", "backup", "--name", "monday"]).done();
    assert!(
        taken.contains("log restore --from FOLDER/monday"),
        "{taken}"
    );
    server
        .run(&["publish", "orders", "x", "--count", "2"])
        .done();
    let told = server.run(&["log", "backup", "--name", "tuesday", "--json"]);
    let told = json(&told.done());
    assert_eq!(
        (&told[0]["state"], &told[0]["report"]["clean"]),
        (&"done".into(), &true.into())
    );
    for (name, why) in [
        ("monday", "another name"),
        ("../x", "--name ../x: a backup's name has"),
    ] {
        let refused = server.run(&["log", "backup", "--name", name]).misused();
        assert!(refused.contains(why), "{refused}");
    }
    server.running.stop("TERM").done();
    for (name, events) in [("monday", 5), ("tuesday", 7)] {
        let (from, data) = (format!("{backups}/{name}"), format!("{back}-{name}"));
        run(&["log", "restore", "--from", &from, "--data", &data]).done();
        let shown = json(&run(&["topic", "show", "orders", "--data", &data, "--json"]).done());
        assert_eq!(shown[0]["partitions"][0]["end"], events, "{shown:?}");
    }

    let server = Server::start(place.path().join("data").as_path());
    let refused = server.run(&["log", "backup", "--name", "a"]).misused();
    assert!(refused.contains("--backups DIR"), "{refused}");
    let both = server
        .run(&["log", "backup", "--name", "a", "--data", &data])
        .misused();
    assert!(both.contains("cannot be used with"), "{both}");
    let alone = run(&["log", "backup", "--name", "a"]).misused();
    assert!(
        alone.contains("--server <URL>") && !alone.contains("--to"),
        "{alone}"
    );
    let nothing = run(&["log", "backup", "--to", &at("to")]).misused();
    assert!(nothing.contains("--data"), "{nothing}");
}

#[test]
fn a_restored_backup_of_damaged_data_names_the_damage() {
    let data = written();
    let segment = file(data.path(), ".log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (to, back) = (at("a/b/backup"), at("c/back"));
    let taken = run(&["log", "backup", "--data", path(&data), "--to", &to]);
    assert!(taken.failed().contains("which are in the backup too"));
    let restored = run(&["log", "restore", "--from", &to, "--data", &back]);
    assert!(restored.out.contains("opens it"), "{restored:?}");
    let error = restored.failed();
    assert!(
        error.contains("restored, with 1 findings of damage"),
        "{error}"
    );
    assert!(error.contains("orders/0, offsets 0 until"), "{error}");
    run(&["topic", "list", "--data", &back]).done();
}

#[test]
fn no_copy_is_made_inside_of_what_is_copied() {
    let data = written();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let to = at("backup");
    std::os::unix::fs::symlink(data.path(), place.path().join("link")).unwrap();
    std::fs::create_dir(place.path().join("other")).unwrap();
    let detour = format!(
        "{}/../{}/x",
        path(&data),
        data.path().file_name().unwrap().to_str().unwrap()
    );
    for inside in [&at("link/inside"), &detour] {
        let error = run(&["log", "backup", "--data", path(&data), "--to", inside]).misused();
        assert!(error.contains("name one outside of it"), "{error}");
    }
    run(&["log", "backup", "--data", path(&data), "--to", &to]).done();
    for inside in [&to, &at("backup/x"), &at("other/../backup/x/y")] {
        let error = run(&["log", "restore", "--from", &to, "--data", inside]).misused();
        assert!(error.contains("name one outside of it"), "{error}");
    }
    run(&["log", "restore", "--from", &to, "--data", &at("new")]).done();
}

#[test]
fn a_folder_whose_superblocks_are_gone_is_no_place_for_a_new_log() {
    let data = written();
    let to = tempfile::tempdir().unwrap();
    let backup = || {
        run(&[
            "log",
            "backup",
            "--data",
            path(&data),
            "--to",
            to.path().to_str().unwrap(),
        ])
    };
    for name in ["superblock.0", "superblock.1"] {
        std::fs::write(data.path().join(name), b"gone").unwrap();
    }
    let error = backup().misused();
    for part in ["no superblock is readable", "from a backup"] {
        assert!(error.contains(part), "{error}");
    }
    let dump = run(&["log", "dump", "--data", path(&data)]);
    assert!(dump.out.contains("unreadable"), "{dump:?}");
    assert!(dump.failed().contains("nothing of it is readable"));

    // Also where nothing was written into segments yet.
    let young = tempfile::tempdir().unwrap();
    let server = Server::start(young.path());
    server.run(&["publish", "t", "x"]).done();
    server.running.stop("KILL");
    for data in [&data, &young] {
        for name in ["superblock.0", "superblock.1"] {
            std::fs::remove_file(data.path().join(name)).unwrap();
        }
        for command in [
            &["topic", "list"][..],
            &["publish", "t", "x"],
            &["serve", "--http", "127.0.0.1:0"],
            &["log", "verify"],
            &["log", "repair"],
        ] {
            let ended = run(&[command, &["--data", path(data)]].concat());
            assert_ne!(ended.code, Some(0), "{command:?}");
            let missing = ended.err.contains("both superblocks are missing")
                || ended.err.contains("both are missing, but");
            let advice = ended.err.contains("restore the folder from a backup");
            assert!(missing && advice, "{command:?}: {ended:?}");
            assert!(!ended.err.contains("begin one with"), "{ended:?}");
        }
    }
}

#[test]
fn a_folder_that_cannot_be_listed_is_named() {
    let data = written();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "none").unwrap();
    let to = file.to_str().unwrap();
    let error = run(&["log", "backup", "--data", path(&data), "--to", to]).misused();
    assert!(error.contains(&format!("cannot list {to}: ")), "{error}");
}

/// Somebody who is not root, since root may read everything.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Gives a folder and what is in it to whom [`run_unprivileged`] runs as.
fn give_away(path: &Path) {
    if !is_root() {
        return;
    }
    std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
}

/// Runs a command to its end as its tester, or as nobody where that is root.
fn run_unprivileged(arguments: &[&str]) -> Ended {
    use std::os::unix::process::CommandExt;
    let mut command = tidemill();
    if is_root() {
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
    }
    ended(command.args(arguments).output().unwrap())
}

#[test]
fn a_file_without_permission_is_not_called_damaged() {
    use std::os::unix::fs::PermissionsExt;
    let data = written();
    let lock = |mode: u32| {
        let journal = file(data.path(), ".journal");
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&journal, mode).unwrap();
        journal
    };
    lock(0o000);
    give_away(data.path());
    for command in [
        &["verify"][..],
        &["dump"],
        &["repair"],
        &["repair", "--yes"],
    ] {
        let error =
            run_unprivileged(&[&["log"], command, &["--data", path(&data)]].concat()).misused();
        for part in ["permission denied; run as", "journal"] {
            assert!(error.contains(part), "{command:?}: {error}");
        }
    }
    lock(0o600);
    run_unprivileged(&["log", "verify", "--data", path(&data)]).done();
    for mode in [0o000, 0o600] {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(data.path(), mode).unwrap();
        let error = run_unprivileged(&["demo", "--for", "1s", "--data", path(&data)]).misused();
        assert!(error.contains("permission denied; run as"), "{error}");
    }
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_journal_that_is_gone_after_a_clean_end_is_begun_anew() {
    let data = tempfile::tempdir().unwrap();
    run(&["publish", "orders", "{}", "--data", path(&data)]).done();
    std::fs::remove_dir_all(data.path().join("journal")).unwrap();
    run(&["topic", "list", "--data", path(&data)]).failed();
    let plan = run(&["log", "repair", "--data", path(&data)]);
    assert!(
        plan.out.contains("no entry is known to be lost"),
        "{plan:?}"
    );
    plan.failed();
    run(&["log", "repair", "--yes", "--data", path(&data)]).done();
    run(&["log", "verify", "--data", path(&data)]).done();
    let listed = run(&["topic", "list", "--data", path(&data)]).done();
    assert!(listed.contains("orders"), "{listed}");
}

#[test]
fn a_dump_of_a_file_without_anything_readable_ends_with_1() {
    let data = tempfile::tempdir().unwrap();
    run(&["publish", "orders", "{}", "--data", path(&data)]).done();
    for file in ["journal/0000000077.journal", "a.log", "a.sum"] {
        std::fs::write(data.path().join(file), [7; 10_000]).unwrap();
        let told = run(&["log", "dump", "--data", path(&data), file]).failed();
        assert!(told.contains("nothing of it is readable"), "{file}: {told}");
    }
    let told = run(&["log", "dump", "--data", path(&data), "b.log"]).misused();
    assert!(told.contains("there is no file b.log"), "{told}");
}

#[test]
fn a_repair_changes_nothing_until_told_and_says_which_events_are_lost() {
    let data = written();
    run(&["log", "repair", "--data", path(&data)]).done();
    let segment = file(data.path(), ".log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let ended = run(&["log", "repair", "--data", path(&data)]);
    assert!(
        ended.out.contains("lost: orders/0, offsets 0 until"),
        "{ended:?}"
    );
    assert!(ended.failed().contains("nothing was changed"));
    assert_eq!(std::fs::read(&segment).unwrap(), bytes);
    let told = json(&run(&["log", "repair", "--data", path(&data), "--json"]).out);
    let lost = &told[0]["lost"][0];
    assert_eq!(
        (&lost["topic"], &told[0]["done"]),
        (&"orders".into(), &false.into())
    );
    let until = lost["offsets"]["until"].as_u64().unwrap();

    let done = run(&["log", "repair", "--data", path(&data), "--yes"]).done();
    assert!(
        done.contains("kept aside: aside/") && done.ends_with("repaired\n"),
        "{done}"
    );
    run(&["log", "verify", "--data", path(&data)]).done();
    let server = Server::start(data.path());
    let rest = (80 - until).to_string();
    let read = ["subscribe", "orders", "--from", "beginning", "--max", &rest];
    let events = server.run(&read).done();
    assert_eq!(events.lines().count() as u64, 80 - until);
    server.running.stop("TERM").done();

    for name in ["superblock.0", "superblock.1"] {
        std::fs::write(data.path().join(name), b"gone").unwrap();
    }
    let hopeless = run(&["log", "repair", "--data", path(&data), "--yes"]).misused();
    assert!(
        hopeless.contains("restore the folder from a backup"),
        "{hopeless}"
    );
}
