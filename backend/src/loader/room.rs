//! Whether a version that is loaded at run time fits into the memory that is free.
//!
//! It is asked twice. Before a version is admitted, since admission keeps its weights in memory while it
//! verifies them: but how many instances there will be is not known yet where the description is verified
//! too, and nothing is known of what is fetched first. And again once it is admitted, before anything is
//! made of it: then both are known, and what is sealed is not free any more.

use std::fs;
use std::path::Path;

use crate::config::{Location, Source};
use crate::integrity::Weights;
use crate::memory;
use crate::repository::{ModelSpec, Platform};

/// There is not enough memory. A retry helps once there is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it needs {needed} bytes of memory, of which {free} are free")]
pub(super) struct NoRoom {
    needed: u64,
    free: u64,
}

/// Whether a version could be read whose weights are in this file, or come from that source: once for
/// what is read, and of an archive once more for the weights that are taken out of it.
pub(super) fn to_read(weights: &Path, source: Option<&Source>) -> Result<(), NoRoom> {
    let needed = match source.map(|source| &source.from) {
        None => size(weights),
        Some(Location::File(archive)) => size(archive).saturating_mul(2),
        // Its size is the registry's to say, and `max_model_bytes` bounds it.
        Some(Location::Http(_)) => 0,
    };
    within(needed, memory::free())
}

/// Whether its instances could be made of it.
pub(super) fn to_load(spec: &ModelSpec, weights: &Weights) -> Result<(), NoRoom> {
    within(needed(spec, weights), memory::free())
}

/// Bytes that instances take, beside what is sealed: one copy of the weights each, and one while they are
/// read from a file. On a GPU only the reading counts.
fn needed(spec: &ModelSpec, weights: &Weights) -> u64 {
    let Platform::TorchScript(how) = &spec.platform else {
        return 0;
    };
    let (bytes, read) = match weights {
        Weights::Sealed(sealed) => (sealed.len(), 0),
        Weights::File(file) => (size(file), 1),
        Weights::None => return 0,
    };
    let copies = if how.device == "cpu" {
        spec.instances as u64
    } else {
        0
    };
    bytes.saturating_mul(copies + read)
}

/// A file that is not there is the executor's to complain about.
fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.len())
}

/// Where the system does not say what is free, nobody is refused for it.
fn within(needed: u64, free: Option<u64>) -> Result<(), NoRoom> {
    match free {
        Some(free) if needed > free => Err(NoRoom { needed, free }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aegis_signing::sealed::{Budget, keep};

    use super::*;

    fn spec(device: &str) -> ModelSpec {
        let text = format!(
            "instances = 3\ndevice = \"{device}\"\n\
             [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1]\n\
             [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1]\n"
        );
        ModelSpec::parse("model.toml", &text).unwrap()
    }

    #[test]
    fn sealed_weights_are_needed_once_more_by_each_instance() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.pt");
        fs::write(&file, [7; 1_000]).unwrap();
        let (_, sealed) = keep(&file, &mut Budget::new(1_000)).unwrap();
        let sealed = Weights::Sealed(Arc::new(sealed));
        let unread = Weights::File(file);
        assert_eq!(needed(&spec("cpu"), &sealed), 3_000);
        assert_eq!(needed(&spec("cpu"), &unread), 4_000);
        assert_eq!(needed(&spec("cuda:0"), &sealed), 0);
        assert_eq!(needed(&spec("cuda:0"), &unread), 1_000);
        let gone = Weights::File(folder.path().join("gone.pt"));
        assert_eq!(needed(&spec("cpu"), &gone), 0);
    }

    #[test]
    fn an_archive_is_read_and_its_weights_are_kept_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.tar");
        // Nothing is written: it only says that it is so large.
        fs::File::create(&file).unwrap().set_len(1 << 42).unwrap();
        let sha256 = aegis_signing::Digest::of(b"");
        let from = |from| Some(Source { from, sha256 });
        let (here, there) = (
            Location::File(file.clone()),
            Location::Http("http://a".into()),
        );
        let refused = to_read(Path::new("gone.pt"), from(here).as_ref()).unwrap_err();
        assert_eq!(refused.needed, 2 << 42);
        assert_eq!(to_read(&file, from(there).as_ref()), Ok(()));
        assert_eq!(to_read(&file, None).unwrap_err().needed, 1 << 42);
    }

    #[test]
    fn what_is_free_may_be_used_up_and_nothing_is_refused_where_that_is_not_known() {
        assert_eq!(within(5, Some(5)), Ok(()));
        assert_eq!(within(6, Some(5)), Err(NoRoom { needed: 6, free: 5 }));
        assert_eq!(within(u64::MAX, None), Ok(()));
    }
}
