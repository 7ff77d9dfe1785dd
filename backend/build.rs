//! Lets the server find libtorch when it starts, with no exported variable.
//!
//! Two places, in this order: `lib/` beside the program's folder, where a container image puts the
//! libraries, and the folder that `make setup` filled, for everything that runs from `target/`.
//! `LD_LIBRARY_PATH` goes before both. Without the `torch` feature there is nothing to find.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // From aegis-torch's build script; unset when that crate is not a dependency.
    if let Ok(lib) = env::var("DEP_AEGIS_TORCH_LIB_DIR") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../lib");
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
