//! Daybook: an event-sourced commerce backend. One binary, a role or tool per subcommand.

mod bar;
mod bench;
mod cli;
mod config;
mod database;
mod doctor;
mod export;
mod feed;
mod import;
mod projections;
mod replay;
mod roles;
mod schemas;
mod secrets;
mod streams;
mod tenants;
mod tools;
mod wiring;

use clap::Parser;

/// A writer makes and drops dozens of small pieces of JSON for each command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("daybook: the runtime can't start: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli::run(cli)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("daybook: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
