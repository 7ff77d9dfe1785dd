//! Modules for tests, from a line of TorchScript.

use std::sync::OnceLock;

use tch::{CModule, Tensor};

use crate::archive::Archive;
use crate::device::Device;
use crate::module::Module;

/// A module whose `forward` has this signature and body: `(x: Tensor) -> Tensor: return x`.
pub(crate) fn script(forward: &str) -> Module {
    Module::load_bytes(&saved(forward), Device::Cpu).expect("the script compiles")
}

/// The bytes of such a module's file.
pub(crate) fn saved(forward: &str) -> Vec<u8> {
    let arguments = forward.strip_prefix('(').expect("begins with `(`");
    let source = format!("class fixture(Module):\n  def forward(self, {arguments}\n");
    let mut archive = Archive::read(identity()).expect("libtorch writes zip files");
    archive
        .replace_source(&source)
        .expect("a traced module has a source");
    archive.write().expect("what was read can be written")
}

/// The bytes of a traced module that returns its argument.
pub(crate) fn identity() -> &'static [u8] {
    static IDENTITY: OnceLock<Vec<u8>> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let example = [Tensor::from_slice(&[0_f32])];
        let mut forward = |inputs: &[Tensor]| vec![inputs[0].shallow_clone()];
        let module = CModule::create_by_tracing("fixture", "forward", &example, &mut forward);
        // Libtorch refuses to save under a name that begins with a dot.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("model.pt");
        let module = module.expect("tracing works");
        module.save(&file).expect("saving works");
        std::fs::read(&file).expect("the file was written")
    })
}
