//! The program: see the library for what it does, and [`aegis_backend::cli`] for how to call it.

use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    aegis_backend::cli::main()
}
