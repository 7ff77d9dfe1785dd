//! What goes in comes out, and what cannot is refused by name.

use std::io::Write;

use aegis_protocol::Datatype;

use super::*;
use crate::MAX_MESSAGE_CHARS;
use crate::datatype::{from_kind, to_kind};
use crate::fixture::{identity, saved, script};

const IDENTITY: &str = "(x: Tensor) -> Tensor: return x";

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape, values).unwrap()
}

/// Six elements whose bytes differ; for booleans, both values.
fn sample(datatype: Datatype) -> Tensor {
    let bytes = 6 * u8::try_from(datatype.size().unwrap()).unwrap();
    let modulus = if datatype == Datatype::Bool { 2 } else { 61 };
    let data: Vec<u8> = (0..bytes).map(|i| i % modulus).collect();
    Tensor::new(datatype, [2, 3], data).unwrap()
}

fn call(arguments: &[Argument], results: &[(&str, Datatype)]) -> Call {
    let expected = |(name, datatype): &(&str, Datatype)| Expected {
        name: (*name).to_owned(),
        datatype: *datatype,
    };
    Call {
        method: FORWARD.to_owned(),
        arguments: arguments.to_vec(),
        results: results.iter().map(expected).collect(),
    }
}

fn failure(forward: &str, inputs: &[Tensor]) -> String {
    script(forward).run(inputs).unwrap_err().to_string()
}

// --- in and out

#[test]
fn every_datatype_that_libtorch_has_comes_back_unchanged() {
    let module = Module::load_bytes(identity(), Device::Cpu).unwrap();
    let known = Datatype::ALL
        .into_iter()
        .filter(|&datatype| to_kind(datatype).and_then(from_kind) == Some(datatype));
    let mut tried = 0;
    for datatype in known {
        let input = sample(datatype);
        assert_eq!(module.run(std::slice::from_ref(&input)).unwrap(), [input]);
        tried += 1;
    }
    assert_eq!(tried, 10);
}

#[test]
fn unsigned_integers_that_libtorch_lacks_enter_as_wider_signed_ones() {
    let module = script(IDENTITY);
    let run = |input: Tensor| module.run(&[input]).unwrap().remove(0);
    let wide = run(Tensor::from_elements([2], &[1_u16, u16::MAX]).unwrap());
    assert_eq!(wide, Tensor::from_elements([2], &[1_i32, 65_535]).unwrap());
    let wide = run(Tensor::from_elements([2], &[1, u32::MAX]).unwrap());
    assert_eq!(wide, Tensor::from_i64([2], &[1, 4_294_967_295]).unwrap());
    let most = u64::try_from(i64::MAX).unwrap();
    let wide = run(Tensor::from_elements([2], &[1, most]).unwrap());
    assert_eq!(wide, Tensor::from_i64([2], &[1, i64::MAX]).unwrap());
    let over = Tensor::from_elements([2], &[1, most + 1]).unwrap();
    assert_eq!(
        module.run(&[over]).unwrap_err().to_string(),
        "input 0: expected a UINT64 up to 9223372036854775807, got 9223372036854775808"
    );
}

#[test]
fn declared_unsigned_integers_come_out_as_such_where_they_fit() {
    let module = script(IDENTITY);
    let returned = |datatype, input: Tensor| {
        let call = call(&[Argument::Tensor], &[("y", datatype)]);
        module.call(&call, &[input]).map(|mut all| all.remove(0))
    };
    for (input, expected) in [
        (
            Tensor::from_elements([2], &[7_i32, 65_535]).unwrap(),
            Tensor::from_elements([2], &[7, u16::MAX]).unwrap(),
        ),
        (
            Tensor::from_i64([2], &[7, 4_294_967_295]).unwrap(),
            Tensor::from_elements([2], &[7, u32::MAX]).unwrap(),
        ),
        (
            Tensor::from_i64([1], &[i64::MAX]).unwrap(),
            Tensor::from_elements([1], &[u64::MAX >> 1]).unwrap(),
        ),
    ] {
        assert_eq!(returned(expected.datatype(), input).unwrap(), expected);
    }
    for (datatype, value) in [(Datatype::Uint16, 65_536), (Datatype::Uint64, -1)] {
        let error = returned(datatype, Tensor::from_i64([1], &[value]).unwrap()).unwrap_err();
        let expected = format!("output 0: {value} does not fit into {datatype}");
        assert_eq!(error.to_string(), expected);
    }
    // What is no integer stays what it is, and the signature refuses it.
    let float = f32s(&[1], &[1.0]);
    assert_eq!(returned(Datatype::Uint16, float.clone()).unwrap(), float);
}

#[test]
fn strings_enter_as_a_list_and_leave_as_one() {
    let module = script("(x: List[str]) -> List[str]: return x");
    let texts = Tensor::from_strings([2], &["gr\u{fc}n", ""]).unwrap();
    assert_eq!(module.run(std::slice::from_ref(&texts)).unwrap(), [texts]);
    for bytes in [&b"a\0b"[..], &b"\xff"[..]] {
        let input = Tensor::from_strings([2], &[b"fine", bytes]).unwrap();
        assert_eq!(
            module.run(&[input]).unwrap_err().to_string(),
            "input 0: element 1 is no UTF-8 without NUL, as a string has to be"
        );
    }
    let table = Tensor::from_strings([1, 1], &["x"]).unwrap();
    let error = module.run(&[table]).unwrap_err().to_string();
    assert_eq!(
        error,
        "input 0: strings are a list, and cannot have the shape [1,1]"
    );
}

#[test]
fn plain_arguments_enter_as_pythons_own_values() {
    let module = script(
        "(x: Tensor, k: int, by: float, on: bool, how: str) -> Tensor:
    if torch.__and__(on, torch.eq(how, \"add\")):
      y = torch.add(x, torch.mul(by, k))
    else:
      y = x
    return y",
    );
    let plain = Argument::Plain;
    let call = call(
        &[Argument::Tensor, plain, plain, plain, plain],
        &[("y", Datatype::Fp32)],
    );
    let ask = |on: bool, how: &str| {
        let inputs = [
            f32s(&[1], &[1.0]),
            Tensor::from_i64([1], &[3]).unwrap(),
            Tensor::from_elements([1], &[0.5]).unwrap(),
            Tensor::from_elements([1], &[on]).unwrap(),
            Tensor::from_strings([1], &[how]).unwrap(),
        ];
        module.call(&call, &inputs).unwrap()
    };
    assert_eq!(ask(true, "add"), [f32s(&[1], &[2.5])]);
    assert_eq!(ask(false, "add"), [f32s(&[1], &[1.0])]);
    assert_eq!(ask(true, "no"), [f32s(&[1], &[1.0])]);
}

#[test]
fn what_is_left_out_enters_as_none() {
    let module = script(
        "(x: Tensor, mask: Optional[Tensor]=None) -> Tensor:
    if torch.__isnot__(mask, None):
      mask0 = unchecked_cast(Tensor, mask)
      y = torch.mul(x, mask0)
    else:
      y = torch.neg(x)
    return y",
    );
    let call = call(
        &[Argument::Tensor, Argument::Optional],
        &[("y", Datatype::Fp32)],
    );
    let x = f32s(&[2], &[1.0, 2.0]);
    let both = module.call(&call, &[x.clone(), f32s(&[2], &[0.0, 1.0])]);
    assert_eq!(both.unwrap(), [f32s(&[2], &[0.0, 2.0])]);
    let one = module.call(&call, &[x, f32s(&[0], &[])]);
    assert_eq!(one.unwrap(), [f32s(&[2], &[-1.0, -2.0])]);
}

#[test]
fn tensors_of_a_list_enter_as_one_argument() {
    let module = script(
        "(xs: List[Tensor], by: Tensor, ys: List[Tensor]) -> Tensor:
    return torch.mul(torch.add(torch.cat(xs, 0), torch.cat(ys, 0)), by)",
    );
    let (first, next) = (true, false);
    let element = |is_first| Argument::Element { is_first };
    let call = call(
        &[
            element(first),
            element(next),
            Argument::Tensor,
            element(first),
        ],
        &[("y", Datatype::Fp32)],
    );
    let inputs = [
        f32s(&[1], &[1.0]),
        f32s(&[2], &[2.0, 3.0]),
        f32s(&[1], &[10.0]),
        f32s(&[3], &[0.0, 0.0, 1.0]),
    ];
    let sums = module.call(&call, &inputs).unwrap();
    assert_eq!(sums, [f32s(&[3], &[10.0, 20.0, 40.0])]);
}

#[test]
fn a_plain_argument_is_one_value_that_python_has() {
    let module = script("(k: int) -> int: return k");
    let call = call(&[Argument::Plain], &[("k", Datatype::Int64)]);
    for input in [Tensor::from_i64([2], &[1, 2]).unwrap(), f32s(&[1], &[1.0])] {
        let error = module.call(&call, &[input]).unwrap_err();
        assert!(matches!(error, RunError::InputNotPlain { index: 0, .. }));
    }
}

#[test]
fn another_method_than_forward_is_called_by_its_name() {
    let module = script(
        "(x: Tensor) -> Tensor: return x
  def encode(self, x: Tensor) -> Tensor: return torch.neg(x)",
    );
    let mut call = call(&[Argument::Tensor], &[("y", Datatype::Fp32)]);
    let x = [f32s(&[1], &[2.0])];
    assert_eq!(module.call(&call, &x).unwrap(), x);
    call.method = "encode".to_owned();
    assert_eq!(module.call(&call, &x).unwrap(), [f32s(&[1], &[-2.0])]);
    call.method = "decode".to_owned();
    let error = module.call(&call, &x).unwrap_err().to_string();
    assert!(error.contains("decode"), "{error}");
}

#[test]
fn entries_of_a_dict_are_found_by_name_in_any_order() {
    let module =
        script("(x: Tensor) -> Dict[str, Tensor]: return {'b': torch.neg(x), 'a': x, 'c': x}");
    let x = f32s(&[1], &[2.0]);
    let minus = f32s(&[1], &[-2.0]);
    let fp32 = Datatype::Fp32;
    let ask = |names: &[(&str, Datatype)]| {
        module.call(&call(&[Argument::Tensor], names), std::slice::from_ref(&x))
    };
    assert_eq!(
        ask(&[("a", fp32), ("b", fp32)]).unwrap(),
        [x.clone(), minus]
    );
    let error = ask(&[("a", fp32), ("z", fp32)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "output `z`: the dict that was returned has no such key"
    );
}

#[test]
fn an_entry_of_a_dict_is_one_output() {
    let module = script("(x: Tensor) -> Dict[str, List[Tensor]]: return {'a': [x, x]}");
    let call = call(&[Argument::Tensor], &[("a", Datatype::Fp32)]);
    let error = module.call(&call, &[f32s(&[1], &[2.0])]).unwrap_err();
    let expected = "output `a`: expected a tensor, a number or a string, got a list";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn numbers_strings_and_lists_of_them_are_outputs() {
    let module = script(
        "(x: Tensor) -> Tuple[int, Tuple[float, Tensor], List[int], str, List[bool], List[float]]:
    return (3, (0.5, x), [1, 2], 'three', [True, False], [0.25])",
    );
    let x = f32s(&[1], &[1.0]);
    assert_eq!(
        module.run(std::slice::from_ref(&x)).unwrap(),
        [
            Tensor::from_i64([1], &[3]).unwrap(),
            Tensor::from_elements([1], &[0.5]).unwrap(),
            x,
            Tensor::from_i64([2], &[1, 2]).unwrap(),
            Tensor::from_strings([1], &["three"]).unwrap(),
            Tensor::from_elements([2], &[true, false]).unwrap(),
            Tensor::from_elements([1], &[0.25]).unwrap(),
        ]
    );
}

#[test]
fn scalars_and_empty_tensors_pass() {
    let module = script(IDENTITY);
    for input in [
        f32s(&[], &[7.0]),
        f32s(&[0, 64], &[]),
        f32s(&[3, 0, 2], &[]),
    ] {
        assert_eq!(module.run(std::slice::from_ref(&input)).unwrap(), [input]);
    }
}

#[test]
fn an_axis_longer_than_libtorch_counts_is_refused() {
    let error = script(IDENTITY)
        .run(&[f32s(&[0, usize::MAX], &[])])
        .unwrap_err();
    assert!(
        matches!(error, RunError::InputShape { index: 0, .. }),
        "{error}"
    );
}

#[test]
fn inputs_arrive_in_the_order_of_the_arguments() {
    let module = script("(x: Tensor, y: Tensor) -> Tensor: return torch.sub(x, y)");
    let output = module
        .run(&[f32s(&[2], &[5.0, 7.0]), f32s(&[2], &[1.0, 9.0])])
        .unwrap();
    assert_eq!(output, [f32s(&[2], &[4.0, -2.0])]);
}

#[test]
fn a_model_that_writes_into_its_argument_leaves_the_callers_bytes_alone() {
    let input = f32s(&[2], &[1.0, 2.0]);
    let output = script("(x: Tensor) -> Tensor: return torch.add_(x, 1)");
    assert_eq!(
        output.run(std::slice::from_ref(&input)).unwrap(),
        [f32s(&[2], &[2.0, 3.0])]
    );
    assert_eq!(input, f32s(&[2], &[1.0, 2.0]));
}

#[test]
fn views_and_lazy_negation_are_carried_out() {
    let x = f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let run = |forward| {
        script(forward)
            .run(std::slice::from_ref(&x))
            .unwrap()
            .remove(0)
    };
    let transposed = run("(x: Tensor) -> Tensor: return torch.t(x)");
    assert_eq!(transposed, f32s(&[2, 2], &[1.0, 3.0, 2.0, 4.0]));
    let column = run("(x: Tensor) -> Tensor: return torch.select(x, 1, 1)");
    assert_eq!(column, f32s(&[2], &[2.0, 4.0]));
    let conjugate = "torch.imag(torch.conj(torch.view_as_complex(x)))";
    let negated = run(&format!("(x: Tensor) -> Tensor: return {conjugate}"));
    assert_eq!(negated, f32s(&[2], &[-2.0, -4.0]));
}

#[test]
fn each_tensor_of_a_tuple_or_list_is_an_output() {
    let x = f32s(&[2], &[1.0, 2.0]);
    let expected = [x.clone(), f32s(&[2], &[-1.0, -2.0])];
    for forward in [
        "(x: Tensor) -> Tuple[Tensor, Tensor]: return (x, torch.neg(x))",
        "(x: Tensor) -> List[Tensor]: return [x, torch.neg(x)]",
    ] {
        assert_eq!(
            script(forward).run(std::slice::from_ref(&x)).unwrap(),
            expected
        );
    }
}

// --- refusals

#[test]
fn outputs_that_are_no_tensors_are_refused_by_what_they_are() {
    let x = [f32s(&[1], &[1.0])];
    for (forward, message) in [
        (
            "(x: Tensor) -> None: return None",
            "output 0: expected a tensor, got None",
        ),
        (
            "(x: Tensor) -> Dict[str, Tensor]: return {'x': x}",
            "output 0: expected a tensor, got a dict",
        ),
        (
            "(x: Tensor) -> Tuple[Tensor, Optional[Tensor]]: return (x, None)",
            "output 1: expected a tensor, got None",
        ),
    ] {
        assert_eq!(failure(forward, &x), message);
    }
}

#[test]
fn tensors_that_the_protocol_cannot_carry_are_refused() {
    let x = [f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0])];
    for (value, told) in [
        ("torch.view_as_complex(x)", "of kind ComplexFloat"),
        ("torch.to_sparse(x)", "sparse or opaque"),
        ("torch.quantize_per_tensor(x, 0.1, 0, 13)", "of kind QUInt8"),
        // 27 is uint16, which tch has no name for.
        ("torch.to(x, 27)", "unknown kind: 27"),
    ] {
        let message = failure(&format!("(x: Tensor) -> Tensor: return {value}"), &x);
        assert!(
            message.starts_with("output 0: the protocol cannot carry"),
            "{message}"
        );
        assert!(message.contains(told), "{message}");
    }
}

#[test]
fn a_layout_that_libtorch_cannot_copy_out_is_the_models_error() {
    let x = [f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0])];
    let message = failure("(x: Tensor) -> Tensor: return torch.to_sparse_csr(x)", &x);
    assert!(message.starts_with("the model failed: "), "{message}");
}

#[test]
fn a_model_that_throws_says_why_in_one_line_and_runs_again() {
    let module = script("(x: Tensor, y: Tensor) -> Tensor: return torch.mm(x, y)");
    let (x, y) = (f32s(&[1, 2], &[1.0, 2.0]), f32s(&[3, 1], &[1.0; 3]));
    let message = module.run(&[x.clone(), y]).unwrap_err().to_string();
    assert_eq!(
        message,
        "the model failed: RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x2 and 3x1)"
    );
    assert_eq!(
        module.run(&[x, f32s(&[2, 1], &[3.0, 4.0])]).unwrap(),
        [f32s(&[1, 1], &[11.0])]
    );
}

#[test]
fn a_message_that_carries_the_input_is_cut() {
    let forward = "(x: Tensor) -> Tensor:
    ops.prim.RaiseException(torch.str(x))
    return x";
    let message = failure(forward, &[f32s(&[1_000, 1], &[0.125; 1_000])]);
    assert!(
        message.chars().count() < MAX_MESSAGE_CHARS + 50,
        "{message}"
    );
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn a_wrong_count_of_inputs_is_the_models_error() {
    let module = script(IDENTITY);
    let x = f32s(&[1], &[1.0]);
    for inputs in [vec![], vec![x.clone(), x]] {
        let error = module.run(&inputs).unwrap_err();
        assert!(matches!(error, RunError::Failed { .. }), "{error}");
    }
}

// --- loading

#[test]
fn files_that_are_no_torchscript_are_refused() {
    let whole = saved(IDENTITY);
    let mut uncompilable = crate::archive::Archive::read(&whole).unwrap();
    uncompilable
        .replace_source("class fixture(Module):\n  def forward(self) -> int: retur 3\n")
        .unwrap();
    let uncompilable = uncompilable.write().unwrap();
    let plain_zip = {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        zip.start_file("hello/readme", zip::write::FileOptions::default())
            .unwrap();
        zip.finish().unwrap().into_inner()
    };
    for bytes in [
        &b""[..],
        b"not a model",
        &whole[..whole.len() / 2],
        &uncompilable,
        &plain_zip,
    ] {
        let error = Module::load_bytes(bytes, Device::Cpu).unwrap_err();
        let LoadError::Refused { message } = error else {
            panic!("{error}")
        };
        assert!(message.chars().count() <= MAX_MESSAGE_CHARS && !message.contains('\n'));
    }
}

#[test]
fn a_file_is_loaded_from_its_path() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&saved(IDENTITY)).unwrap();
    let x = f32s(&[1], &[1.0]);
    let module = Module::load(file.path(), Device::Cpu).unwrap();
    assert_eq!(module.run(std::slice::from_ref(&x)).unwrap(), [x]);
}

#[test]
fn a_missing_file_is_told_by_its_path() {
    let error = Module::load(Path::new("no/such/model.pt"), Device::Cpu).unwrap_err();
    assert_eq!(error.to_string(), "cannot read no/such/model.pt");
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("model.pt");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for path in [folder.path(), &*pipe] {
        let error = Module::load(path, Device::Cpu).unwrap_err();
        let expected = format!("{} is not a regular file", path.display());
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_gpu_that_is_not_there_is_told_by_its_name() {
    let device = Device::Cuda(200);
    let error = Module::load_bytes(identity(), device).unwrap_err();
    // By what is missing: the library, or the device.
    match &error {
        LoadError::NoCuda { source, .. } => {
            let source = format!("{source:?}");
            assert!(source.contains("libtorch_cuda.so"), "{source}");
        }
        LoadError::NoDevice { count, .. } => assert!(*count <= 200, "{count}"),
        other => panic!("{other}"),
    }
    assert!(error.to_string().contains("cuda:200"), "{error}");
}

// --- threads

#[test]
fn runs_compute_no_gradients() {
    // The interpreter's own view from inside a run: true would be 1.
    let enabled = "torch.mul(x, float(torch.is_grad_enabled()))";
    let module = script(&format!("(x: Tensor) -> Tensor: return {enabled}"));
    assert_eq!(
        module.run(&[f32s(&[1], &[1.0])]).unwrap(),
        [f32s(&[1], &[0.0])]
    );
}

#[test]
fn each_module_runs_with_its_own_count_of_threads() {
    let run = |module: &Module| {
        module.run(&[f32s(&[1], &[1.0])]).unwrap();
        tch::get_num_threads()
    };
    let two = script(IDENTITY).with_threads(NonZeroU16::new(2).unwrap());
    let one = script(IDENTITY);
    assert_eq!([run(&one), run(&two), run(&one)], [1, 2, 1]);
    std::thread::scope(|scope| assert_eq!(scope.spawn(|| run(&one)).join().unwrap(), 1));
}

#[test]
fn modules_on_many_threads_do_not_mix_their_rows() {
    let bytes = saved("(x: Tensor) -> Tensor: return torch.mul(x, 2)");
    std::thread::scope(|scope| {
        for thread in 0_u16..4 {
            let module = Module::load_bytes(&bytes, Device::Cpu).unwrap();
            scope.spawn(move || {
                for round in 0_u16..50 {
                    let value = f32::from(thread * 100 + round);
                    let input = f32s(&[8], &[value; 8]);
                    assert_eq!(
                        module.run(&[input]).unwrap(),
                        [f32s(&[8], &[2.0 * value; 8])]
                    );
                }
            });
        }
    });
}
