//! The commands, one file each: what they take and what they do.

#[cfg(feature = "kafka")]
mod acl;
mod bench;
mod client;
mod completions;
mod deadletter;
mod demo;
mod graph;
mod group;
mod handler;
mod log;
mod publish;
mod queue;
mod request;
mod serve;
mod subscribe;
mod topic;
#[cfg(feature = "kafka")]
mod user;
mod webhook;

use std::future::Future;

use clap::Subcommand;

use crate::failure::Failure;

/// What can be asked for.
#[derive(Subcommand)]
pub(crate) enum Command {
    Demo(demo::Demo),
    Serve(serve::Serve),
    #[command(visible_alias = "pub")]
    Publish(publish::Publish),
    #[command(visible_alias = "sub")]
    Subscribe(subscribe::Subscribe),
    Request(request::Request),
    #[command(subcommand)]
    Topic(topic::Topic),
    #[command(subcommand)]
    Group(group::Group),
    #[command(subcommand)]
    Client(client::Client),
    #[command(subcommand)]
    Handler(handler::Handler),
    Graph(graph::Graph),
    #[command(subcommand)]
    Queue(queue::Queue),
    #[command(subcommand)]
    Webhook(webhook::Webhook),
    #[command(subcommand)]
    Deadletter(deadletter::Deadletter),
    #[cfg(feature = "kafka")]
    #[command(subcommand)]
    User(user::User),
    #[cfg(feature = "kafka")]
    #[command(subcommand)]
    Acl(acl::Acl),
    #[command(subcommand)]
    Log(log::Log),
    Bench(bench::Bench),
    Completions(completions::Completions),
}

/// Runs one command to its end.
pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(command) => wide(command.run()),
        Command::Serve(command) => wide(command.run()),
        Command::Publish(command) => narrow(command.run()),
        Command::Subscribe(command) => narrow(command.run()),
        Command::Request(command) => narrow(command.run()),
        Command::Topic(command) => narrow(command.run()),
        Command::Group(command) => narrow(command.run()),
        Command::Client(command) => narrow(command.run()),
        Command::Handler(command) => narrow(command.run()),
        Command::Graph(command) => narrow(command.run()),
        Command::Queue(command) => narrow(command.run()),
        Command::Webhook(command) => narrow(command.run()),
        Command::Deadletter(command) => narrow(command.run()),
        #[cfg(feature = "kafka")]
        Command::User(command) => command.run(),
        #[cfg(feature = "kafka")]
        Command::Acl(command) => command.run(),
        Command::Log(command) => command.run(),
        Command::Bench(command) => wide(command.run()),
        Command::Completions(command) => command.run(),
    }
}

/// On a thread for each core: for commands that carry load.
fn wide(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(command);
    // What still runs was called off; the process does not wait for it.
    runtime.shutdown_background();
    done
}

/// On this thread alone: for commands that ask a question and print the answer.
fn narrow(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(command);
    // A write that nobody takes is not waited for.
    runtime.shutdown_background();
    done
}
