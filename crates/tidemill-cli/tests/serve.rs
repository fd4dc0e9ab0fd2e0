//! `tidemill serve` as a user meets it: what it prints, what it refuses, how it ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use support::{Running, Server, run, run_with, tidemill};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_signal_ends_it_well_and_what_was_accepted_is_there_again() {
    for signal in ["INT", "TERM"] {
        let data = folder();
        let server = Server::start(data.path());
        server.run(&["publish", "orders", "{\"a\":1}"]).done();
        let ended = server.running.stop(signal);
        assert!(ended.done().contains("closed"));
        let server = Server::start(data.path());
        let read = server
            .run(&["sub", "orders", "--from", "beginning", "--max", "1"])
            .done();
        assert!(read.contains("{\"a\":1}"), "{read}");
    }
}

/// A server, and a call whose body it waits for: three bytes are missing.
fn waiting_for_a_body(data: &std::path::Path) -> (Server, TcpStream) {
    let server = Server::start(data);
    let address = server.url.trim_start_matches("http://");
    let mut call = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v1/topics/orders/events HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /test\r\nce-type: made\r\n\
         content-type: application/json\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n"
    );
    call.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    call.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    (server, call)
}

#[test]
fn signals_that_come_together_are_one_and_it_still_drains() {
    let data = folder();
    let (server, mut call) = waiting_for_a_body(data.path());
    // As from a shell, or from `timeout`, which send to the process and to its group.
    server.running.send_together([Signal::TERM, Signal::INT]);
    let mut answer = String::new();
    // By then it has heard them: it takes no more connections.
    let address = server.url.trim_start_matches("http://");
    support::patiently("it goes on taking connections", || {
        TcpStream::connect(address).is_err()
    });
    call.write_all(b"123").unwrap();
    call.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("HTTP/1.1 20"), "{answer}");
    assert!(server.running.end().done().contains("closed"));
}

#[test]
fn a_later_signal_ends_it_without_draining() {
    let data = folder();
    let (server, _call) = waiting_for_a_body(data.path());
    let ended = server.running.signal_until_the_end("TERM");
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.err.contains("interrupted again"), "{ended:?}");
}

#[test]
fn a_killed_server_keeps_what_it_accepted_and_frees_its_folder() {
    let data = folder();
    let server = Server::start(data.path());
    server
        .run(&["publish", "orders", "one", "--count", "300"])
        .done();
    server.running.stop("KILL");
    let server = Server::start(data.path());
    let topic = server.run(&["topic", "show", "orders", "--json"]).done();
    assert!(topic.contains("\"end\":300"), "{topic}");
}

#[test]
fn a_taken_port_names_the_flag_to_change() {
    let (first, second) = (folder(), folder());
    let server = Server::start(first.path());
    let address = server.url.trim_start_matches("http://");
    let data = second.path().to_str().unwrap();
    let error = run(&["serve", "--data", data, "--http", address]).failed();
    assert!(
        error.contains(address) && error.contains("--http"),
        "{error}"
    );
    let new = second.path().join("new");
    let data = new.to_str().unwrap();
    run(&["serve", "--data", data, "--http", address]).failed();
    assert!(!new.exists(), "a folder was made all the same");
}

#[test]
fn a_folder_in_use_names_the_process_that_has_it() {
    let data = folder();
    let server = Server::start(data.path());
    let pid = server.running.pid().to_string();
    let path = data.path().to_str().unwrap();
    for arguments in [
        &["serve", "--data", path, "--http", "127.0.0.1:0"][..],
        &["topic", "list", "--data", path],
        &["bench", "--data", path, "--for", "1s"],
    ] {
        let error = run(arguments).failed();
        assert!(error.contains(&pid) && error.contains("--data"), "{error}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let data = folder();
    let file = data.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let inside = file.join("data");
    let serve = ["serve", "--http", "127.0.0.1:0", "--data"];
    let error = run(&[&serve[..], &[inside.to_str().unwrap()]].concat()).failed();
    assert!(
        error.contains("--data") && error.contains("file"),
        "{error}"
    );
    assert!(error.contains("is a file; name a folder"), "{error}");
    if std::path::Path::new("/proc").exists() {
        let error = run(&["serve", "--data", "/proc/new", "--http", "127.0.0.1:0"]).failed();
        let said = "/proc/new cannot be made";
        assert!(error.contains(said), "{error}");
        assert!(error.contains("name another folder"), "{error}");
    }
    let file = file.to_str().unwrap();
    for command in [
        &["serve", "--http", "127.0.0.1:0"][..],
        &["publish", "orders", "1"],
    ] {
        let error = run(&[command, &["--data", file]].concat()).failed();
        assert!(error.contains("is a file; name a folder"), "{error}");
    }
}

#[test]
fn a_folder_of_a_newer_format_is_refused_and_left_as_it_is() {
    let data = folder();
    Server::start(data.path()).running.stop("TERM").done();
    let superblocks = ["superblock.0", "superblock.1"].map(|name| data.path().join(name));
    for path in &superblocks {
        let mut bytes = std::fs::read(path).unwrap();
        support::raise_format_version(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
    let before = superblocks.clone().map(|path| std::fs::read(path).unwrap());
    let serve = ["serve", "--http", "127.0.0.1:0", "--data"];
    let error = run(&[&serve[..], &[data.path().to_str().unwrap()]].concat()).failed();
    assert!(error.contains("newer"), "{error}");
    assert_eq!(before, superblocks.map(|path| std::fs::read(path).unwrap()));
}

#[test]
fn other_machines_are_let_in_only_when_told_to() {
    let data = folder();
    let path = data.path().to_str().unwrap();
    let new = data.path().join("new");
    for command in ["serve", "demo"] {
        let place = ["--data", new.to_str().unwrap(), "--http", "0.0.0.0:0"];
        let error = run(&[&[command], &place[..]].concat()).misused();
        assert!(error.contains("--insecure"), "{error}");
        assert!(!new.exists(), "{command} made a folder all the same");
    }
    let mut command = tidemill();
    command.args(["serve", "--data", path, "--http", "0.0.0.0:0", "--insecure"]);
    let mut running = Running::start(command);
    assert!(running.line("http ").starts_with("http://0.0.0.0:"));
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let data = folder();
    let config = data.path().join("tidemill.toml");
    std::fs::write(&config, "http = '127.0.0.3:0'\nflush = 'os'\n").unwrap();
    let serve = |environment: Option<&str>, flag: Option<&str>| {
        let mut command = tidemill();
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(data.path().join("d"));
        command.args(flag.map(|f| ["--http", f]).into_iter().flatten());
        command.envs(environment.map(|e| ("TIDEMILL_HTTP", e)));
        let mut running = Running::start(command);
        let flush = running.line("data ");
        assert!(flush.contains("synced by the system"), "{flush}");
        running.line("http ")
    };
    assert!(serve(None, None).contains("127.0.0.3:"));
    assert!(serve(Some("127.0.0.2:0"), None).contains("127.0.0.2:"));
    assert!(serve(Some("127.0.0.2:0"), Some("127.0.0.1:0")).contains("127.0.0.1:"));
}

#[test]
fn the_largest_event_is_about_its_data_and_not_about_the_call() {
    let data = folder();
    let mut command = tidemill();
    command.arg("serve").arg("--data").arg(data.path());
    command.args(["--http", "127.0.0.1:0", "--event-max-bytes", "100"]);
    let mut running = Running::start(command);
    let url = running.line("http ");
    let server = Server { running, url };
    let (fits, larger) = ("x".repeat(100), "x".repeat(101));
    server.run(&["publish", "a", &fits, "--count", "20"]).done();
    let refused = server.run(&["publish", "a", &larger]).failed();
    assert!(
        refused.contains("101") && refused.contains("100"),
        "{refused}"
    );
}

#[test]
fn a_topic_that_is_not_created_by_use_says_how_to_create_it() {
    let data = folder();
    let mut command = tidemill();
    command.arg("serve").arg("--data").arg(data.path());
    command.args(["--http", "127.0.0.1:0", "--auto-create-topics", "false"]);
    let mut running = Running::start(command);
    let url = running.line("http ");
    let server = Server { running, url };
    for arguments in [&["publish", "t", "x"][..], &["sub", "t"]] {
        let error = server.run(arguments).failed();
        assert!(error.contains("tidemill topic create"), "{error}");
    }
    server.run(&["topic", "create", "t"]).done();
    server.run(&["publish", "t", "x"]).done();
}

#[test]
fn localhost_is_an_address() {
    let data = folder();
    let mut command = tidemill();
    command.arg("serve").arg("--data").arg(data.path());
    command.args(["--http", "localhost:0"]);
    let mut running = Running::start(command);
    assert!(running.line("http ").starts_with("http://127.0.0.1:"));
}

#[test]
fn a_wrong_value_of_the_environment_names_its_variable() {
    for (arguments, variable, value, part) in [
        (&["serve"][..], "TIDEMILL_HTTP", "", "localhost:7575"),
        (&["serve"], "TIDEMILL_HTTP", "here", "localhost:7575"),
        (&["demo"], "TIDEMILL_HTTP", "", "localhost:7575"),
        (&["serve"], "TIDEMILL_DATA", "", "--data"),
        (&["serve"], "TIDEMILL_CONFIG", "", "--config"),
        (&["serve"], "TIDEMILL_INSECURE", "maybe", "true, false"),
        (&["serve"], "TIDEMILL_DEFAULT_PARTITIONS", "x", "--default"),
        (
            &["topic", "list"],
            "TIDEMILL_SERVER",
            "",
            "http://HOST:PORT",
        ),
        (
            &["sub", "t"],
            "TIDEMILL_SERVER",
            "localhost:1",
            "http://HOST:PORT",
        ),
    ] {
        let ended = run_with(arguments, &[(variable, value)]);
        let error = ended.misused();
        for part in [part, variable] {
            assert!(error.contains(part), "{variable}={value}: {error}");
        }
    }
    // The usage is that of what was typed, whatever the environment has.
    let short = run_with(&["topic", "show"], &[("TIDEMILL_SERVER", "http://a:1")]);
    let error = short.misused();
    let usage = "Usage: tidemill topic show [OPTIONS] <TOPIC>\n";
    assert!(error.contains(usage), "{error}");
    // What was typed is not blamed on the environment.
    let typed = ["topic", "list", "--server", "nonsense"];
    let error = run_with(&typed, &[("TIDEMILL_SERVER", "http://a:1")]).misused();
    assert!(!error.contains("TIDEMILL_SERVER"), "{error}");
}

#[test]
fn the_environment_names_a_target_where_nobody_typed_one() {
    let (data, other) = (folder(), folder());
    let path = data.path().to_str().unwrap();
    run(&["topic", "create", "here", "--data", path]).done();
    let server = Server::start(other.path());
    server.run(&["topic", "create", "there"]).done();
    let list = ["topic", "list"];
    let named = |environment: &[(&str, &str)], more: &[&str]| {
        run_with(&[&list[..], more].concat(), environment)
    };
    let folder = ("TIDEMILL_DATA", path);
    assert!(named(&[folder], &[]).done().contains("here"));
    let asked = ("TIDEMILL_SERVER", server.url.as_str());
    assert!(named(&[folder, asked], &[]).done().contains("there"));
    let typed = ["--server", server.url.as_str()];
    assert!(named(&[folder], &typed).done().contains("there"));
    // What is not asked for may be nonsense.
    let nonsense = ("TIDEMILL_SERVER", "nonsense");
    assert!(
        named(&[nonsense], &["--data", path])
            .done()
            .contains("here")
    );
    let in_use = named(&[("TIDEMILL_DATA", other.path().to_str().unwrap())], &[]).failed();
    for part in ["TIDEMILL_DATA", "--server", "in use"] {
        assert!(in_use.contains(part), "{in_use}");
    }
    let empty = named(&[("TIDEMILL_DATA", "")], &[]).misused();
    assert!(empty.contains("TIDEMILL_DATA is set and empty"), "{empty}");
}

#[test]
fn nonsense_is_wrong_use() {
    let data = folder();
    let config = data.path().join("wrong.toml");
    std::fs::write(&config, "portt = 1\n").unwrap();
    for (arguments, part) in [
        (&["serve", "--http", "nowhere"][..], "localhost:7575"),
        (&["serve", "--http", "7575"], "localhost:7575"),
        (&["serve", "--flush", "sometimes"], "every_commit"),
        (&["serve", "--event-max-bytes", "0"], "--event-max-bytes"),
        (&["serve", "--default-partitions", "x"], "whole number"),
        (&["serve", "--default-partitions", "5000"], "between 1 and"),
        (&["serve", "--config", config.to_str().unwrap()], "portt"),
        (&["serve", "--config", "/nowhere/tidemill.toml"], "--config"),
        (&["serve", "--default-partitions", "-1"], "at least 0"),
        (&["serve", "extra"], "extra"),
        (&["sevre"], "serve"),
        (&[], "Usage"),
    ] {
        let error = run(arguments).misused();
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[cfg(feature = "kafka")]
#[test]
fn a_port_for_two_doors_is_refused_before_anything_is_made() {
    let place = folder();
    let data = place.path().join("data");
    let serve = |http: &str, kafka: &str| {
        let data = data.to_str().unwrap();
        run(&["serve", "--data", data, "--http", http, "--kafka", kafka])
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = port.local_addr().unwrap().port();
    let (here, all) = (format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"));
    for (http, kafka) in [(&here, &here), (&here, &all)] {
        let error = serve(http, kafka).misused();
        assert!(error.contains("--http and --kafka"), "{error}");
    }
    assert!(!data.exists());
}

#[test]
fn a_folder_that_cannot_hold_backups_is_refused_before_anything_is_made() {
    let place = folder();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (data, file) = (at("data"), at("file"));
    std::fs::write(&file, "no folder").unwrap();
    let other = folder();
    run(&[
        "topic",
        "create",
        "a",
        "--data",
        other.path().to_str().unwrap(),
    ])
    .done();
    let other = other.path().join("backups").to_str().unwrap().to_owned();
    let mut wrong = vec![
        (file.clone(), "it is a file; name a folder"),
        (format!("{file}/x"), "it cannot be made"),
        (data.clone(), "name a folder outside of it"),
        (format!("{data}/../data/x"), "name a folder outside of it"),
        (other, "name a folder outside of it"),
    ];
    if std::path::Path::new("/proc/sys").is_dir() {
        wrong.push(("/proc/sys".to_owned(), "it cannot be written to"));
    }
    for (backups, why) in wrong {
        let serve = ["serve", "--http", "127.0.0.1:0", "--data", &data];
        let error = run(&[&serve[..], &["--backups", &backups]].concat()).failed();
        let said = format!("--backups {backups}: ");
        assert!(error.contains(&said) && error.contains(why), "{error}");
        assert!(!std::path::Path::new(&data).exists(), "{backups}");
    }
    let backups = at("new/backups");
    let server = Server::start_with(data.as_ref(), &["--backups", &backups]);
    assert_eq!(std::fs::read_dir(&backups).unwrap().count(), 0);
    server.running.stop("TERM").done();
}

#[test]
fn too_few_open_files_end_with_what_to_do() {
    let place = folder();
    let data = place.path().join("data");
    let tidemill = tidemill();
    let program = tidemill.get_program().to_str().unwrap();
    let shell = format!(
        "ulimit -n 14 && exec {program} topic create t --data {}",
        data.display()
    );
    std::fs::create_dir_all(&data).unwrap();
    let ended = std::process::Command::new("sh")
        .args(["-c", &shell])
        .output()
        .unwrap();
    let error = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{error}");
    assert!(error.contains("ulimit -n 4096"), "{error}");
    assert_eq!(error.trim().lines().count(), 1, "{error}");
}

#[test]
fn a_superblock_that_is_a_folder_says_what_to_do() {
    let place = folder();
    let data = place.path().to_str().unwrap();
    run(&["topic", "create", "t", "--data", data]).done();
    let superblock = place.path().join("superblock.0");
    let kept = place.path().join("kept");
    std::fs::rename(&superblock, &kept).unwrap();
    std::fs::create_dir(&superblock).unwrap();
    let error = run(&["topic", "list", "--data", data]).failed();
    assert!(
        error.contains("superblock.0: it is a folder; take it away"),
        "{error}"
    );
    std::fs::remove_dir(&superblock).unwrap();
    run(&["topic", "list", "--data", data]).done();
}
