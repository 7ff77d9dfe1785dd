//! Sources as libtorch prints them, and files as it writes them.

use std::io::{Cursor, Write};

use zip::ZipWriter;
use zip::write::FileOptions;

use super::{Parameter, Program, ProgramError, Type};
use crate::fixture::saved;

/// A file with these records under `net/`.
fn file(records: &[(&str, &[u8])]) -> Cursor<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in records {
        zip.start_file(format!("net/{name}"), FileOptions::default())
            .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap()
}

const PICKLE: &[u8] =
    b"\x80\x02c__torch__.shop\nNet\nq\x00)\x81}(X\x08\x00\x00\x00trainingq\x01\x89ub.";

fn program(source: &str) -> Result<Program, ProgramError> {
    Program::read(file(&[
        ("data.pkl", PICKLE),
        ("code/__torch__/shop.py", source.as_bytes()),
    ]))
}

fn parameter(name: &str, ty: Type, default: Option<&str>) -> Parameter {
    Parameter {
        name: name.to_owned(),
        ty,
        default: default.map(str::to_owned),
    }
}

#[test]
fn what_libtorch_itself_saved_is_read() {
    let bytes = saved("(x: Tensor, n: int) -> Tuple[Tensor, float]:\n    return (x, 0.5)");
    let program = Program::read(Cursor::new(bytes)).unwrap();
    assert_eq!(program.class, "__torch__.fixture");
    let forward = program.method("forward").unwrap();
    let expected = [
        parameter("x", Type::Tensor, None),
        parameter("n", Type::Int, None),
    ];
    assert_eq!(forward.parameters, expected);
    assert_eq!(
        forward.returns,
        Type::Tuple(vec![Type::Tensor, Type::Float])
    );
}

#[test]
fn methods_with_defaults_and_nested_types_are_read() {
    let program = program(
        "class Other(Module):
  def forward(self: __torch__.shop.Other, no: int) -> int:
    return no
class Net(Module):
  __parameters__ = [\"weight\", ]
  weight : Tensor
  training : bool
  _is_full_backward_hook : Optional[bool]
  def forward(self: __torch__.shop.Net,
    x: Tensor,
    how: str=\"a, (b\\\" = c\",
    mask: Optional[Tensor]=None,
    by: List[Tuple[int, float]]=[(1, 2.)]) -> Dict[str, Tensor]:
    text = \"  def nothing(self)\"
    return {\"y\": x}
  def encode(self: __torch__.shop.Net,
    t: List[str]) -> NoneType:
    return None
class Last(Module):
  def no(self) -> int:
    return 1
",
    )
    .unwrap();
    let names: Vec<_> = program.methods.iter().map(|one| &one.name).collect();
    assert_eq!(names, ["forward", "encode"]);
    let pairs = Type::Tuple(vec![Type::Int, Type::Float]);
    let expected = [
        parameter("x", Type::Tensor, None),
        parameter("how", Type::Str, Some("\"a, (b\\\" = c\"")),
        parameter("mask", Type::Optional(Box::new(Type::Tensor)), Some("None")),
        parameter("by", Type::List(Box::new(pairs)), Some("[(1, 2.)]")),
    ];
    assert_eq!(program.methods[0].parameters, expected);
    assert_eq!(program.methods[0].returns.to_string(), "Dict[str, Tensor]");
    assert_eq!(program.methods[1].returns, Type::Other("NoneType".into()));
}

#[test]
fn a_named_tuple_is_the_tuple_that_it_is() {
    let source: &[u8] = b"class Net(Module):
  def forward(self: __torch__.shop.Net, x: Tensor) -> __torch__.out.Out:
    return x
";
    let program = Program::read(file(&[
        ("data.pkl", PICKLE),
        ("code/__torch__/shop.py", source),
        (
            "code/__torch__/out.py",
            b"class Out(NamedTuple):\n  label : Tensor\n  score : float\n",
        ),
    ]));
    let forward = program.unwrap().methods.remove(0);
    assert_eq!(forward.fields, ["label", "score"]);
    assert_eq!(
        forward.returns,
        Type::Tuple(vec![Type::Tensor, Type::Float])
    );
}

#[test]
fn what_is_no_module_says_what_it_is() {
    let told = |file: Cursor<Vec<u8>>| Program::read(file).unwrap_err().to_string();
    assert!(told(Cursor::new(b"no zip".to_vec())).contains("not a readable zip file"));
    let state = file(&[
        ("data.pkl", b"\x80\x02ccollections\nOrderedDict\n."),
        ("data/0", b""),
    ]);
    assert!(told(state).contains("weights or Python objects"));
    assert!(told(file(&[("readme", b"")])).contains("no data.pkl"));
    let source: &[u8] = b"class Other(Module):\n";
    let other = file(&[("data.pkl", PICKLE), ("code/__torch__/shop.py", source)]);
    let error = told(other);
    assert!(error.contains("net/code/__torch__/shop.py"), "{error}");
    assert!(error.contains("expected the class `Net`"), "{error}");
    let nameless = file(&[("data.pkl", b"\x80\x02N."), ("code/x.py", b"")]);
    assert!(told(nameless).contains("an object of no class"));
}

#[test]
fn broken_sources_are_faults_and_no_panics() {
    for head in [
        "forward(self",
        "forward(self, x) -> Tensor:",
        "forward(self, x: Tensor) -> Tensor",
        "forward",
        "forward(self, x: \u{e9}[) -> T:",
    ] {
        let source = format!("class Net(Module):\n  def {head}\n");
        match program(&source) {
            Err(ProgramError::Source { .. }) | Ok(_) => {}
            Err(other) => panic!("{head}: {other}"),
        }
    }
    let deep = format!("{}int{}", "List[".repeat(500), "]".repeat(500));
    let source =
        format!("class Net(Module):\n  def forward(self, x: {deep}) -> int:\n    return 1\n");
    program(&source).unwrap();
}
