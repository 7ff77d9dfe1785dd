use aegis_protocol::Datatype;

use super::*;
use crate::model::scripted::Answer;
use crate::safety::{Action, Check, Rule, Test, Texts};
use crate::signature::Axis;

const TENSORS: &str = "
[[inputs]]
name = \"x\"
datatype = \"FP32\"
shape = [-1, 3, -1]
warm_up = [224]
[[outputs]]
name = \"y\"
datatype = \"INT64\"
shape = [-1]
";

fn parse(text: &str) -> Result<ModelSpec, Rejected> {
    ModelSpec::parse("model.toml", text)
}

#[track_caller]
fn faults(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn defaults_and_signature_are_taken() {
    let spec = parse(TENSORS).unwrap();
    assert_eq!(
        spec.platform,
        Platform::TorchScript(TorchScript {
            device: "cpu".to_owned(),
            method: "forward".to_owned(),
            intra_op_threads: 1,
        })
    );
    assert_eq!((spec.max_batch_rows, spec.instances), (8, 1));
    assert_eq!(spec.max_wait, Duration::from_millis(20));
    assert!(spec.signature.batched);
    let input = &spec.signature.inputs[0];
    assert_eq!(input.datatype, Datatype::Fp32);
    assert_eq!(input.axes, [Axis::Free, Axis::Fixed(3), Axis::Free]);
    assert_eq!(input.example, [224]);
    let rules = |rules: &[Rule]| -> Vec<_> {
        let each = rules.iter();
        each.map(|rule| (rule.check, rule.action, rule.tensor))
            .collect()
    };
    let finite = [(Check::NanInfInput, Action::Block, 0)];
    assert_eq!(rules(&spec.safety.inputs), finite);
    // The output is of whole numbers, which are always finite.
    assert_eq!(rules(&spec.safety.outputs), []);
}

#[test]
fn a_model_that_does_not_batch_needs_no_batch_axis() {
    let text = "max_batch_size = 0\n[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [2]\n\
                [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = []";
    let spec = parse(text).unwrap();
    assert!(!spec.signature.batched);
    assert_eq!(spec.max_batch_rows, 1);
    assert!(faults(&text.replace("= 0", "= 4")).contains("inputs[0].shape: expected -1"));
}

#[test]
fn a_script_is_read_whole() {
    let text = "platform = \"scripted\"\n[scripted]\nbatch_ms = 0.5\nrow_ms = 2\nfail_every = 3\n\
                nan_on = 7\n";
    let text = format!(
        "{text}{}",
        TENSORS.replace("3, -1]", "3]").replace("warm_up", "#")
    );
    let Platform::Scripted(script) = parse(&text).unwrap().platform else {
        panic!("a script")
    };
    assert_eq!(script.batch, Duration::from_micros(500));
    assert_eq!(script.row, Duration::from_millis(2));
    assert_eq!(script.fail_every.map(u64::from), Some(3));
    assert_eq!((script.hang_every, script.nan_on), (None, Some(7.0)));
    assert_eq!(script.answer, Answer::Zeros);
}

#[test]
fn every_fault_is_listed_by_its_path() {
    let text = "
max_batch_size = 2000
instances = 0
device = \"gpu\"
[[inputs]]
name = \"\"
datatype = \"float\"
shape = [-1, 0]
[[inputs]]
name = \"b\"
datatype = \"FP32\"
shape = [-1, 2]
warm_up = [1]
[[outputs]]
name = \"c\"
datatype = \"FP32\"
shape = [4]
warm_up = [4]
[[outputs]]
name = \"c\"
datatype = \"FP32\"
shape = [-1]
";
    let faults = faults(text);
    for expected in [
        "model.toml:2: max_batch_size: expected a number from 0 to 1024, got 2000",
        "model.toml:3: instances: expected a number from 1 to 256, got 0",
        "model.toml:4: device: expected cpu or cuda:N, got `gpu`",
        "inputs[0].name: expected a name, got none",
        "inputs[0].datatype: expected one of BOOL",
        "inputs[0].shape[1]: expected -1 or a size >= 1, got 0",
        "inputs[1].warm_up: expected 0 sizes, one for each free inner axis, got 1",
        "outputs[0].shape: expected -1, the batch axis, first",
        "outputs[0].warm_up: unknown key `warm_up`",
        "outputs[1].name: `c` is given twice",
    ] {
        assert!(
            faults.contains(expected),
            "expected {expected} in\n{faults}"
        );
    }
}

#[test]
fn an_empty_description_says_what_is_missing() {
    let faults = faults("");
    assert!(
        faults.contains("inputs: expected at least one [[inputs]]"),
        "{faults}"
    );
    assert!(
        faults.contains("outputs: expected at least one [[outputs]]"),
        "{faults}"
    );
}

#[test]
fn a_script_must_fit_the_signature() {
    let scripted = |answer: &str| {
        let text = format!("platform = \"scripted\"\n[scripted]\nanswer = \"{answer}\"\n{TENSORS}");
        faults(&text)
    };
    assert!(scripted("identity").contains("scripted.answer: `identity` needs outputs"));
    assert!(scripted("sum").contains("scripted.answer: `sum` needs FP32 inputs"));
    assert!(scripted("cake").contains("scripted.answer"));
    let free = TENSORS.replace("shape = [-1]", "shape = [-1, -1]");
    assert!(faults(&format!("platform = \"scripted\"\n{free}")).contains("`zeros` needs outputs"));
    assert!(faults(&format!("[scripted]\n{TENSORS}")).contains("only with platform"));
    let negative = format!("platform = \"scripted\"\n[scripted]\nbatch_ms = -1\n{TENSORS}");
    assert!(faults(&negative).contains("scripted.batch_ms: expected milliseconds from 0"));
}

#[test]
fn a_shape_that_memory_cannot_hold_is_refused_and_not_allocated() {
    let huge = TENSORS.replace("[-1, 3, -1]", "[-1, 9223372036854775807, -1]");
    assert!(faults(&huge).contains("inputs[0].shape: a batch of 8 rows needs more than"));
    let large = TENSORS.replace("[224]", "[100000000]");
    assert!(faults(&large).contains("needs more than 1073741824 bytes"));
    let output = TENSORS.replace("shape = [-1]", "shape = [-1, 10000000000000]");
    assert!(faults(&output).contains("outputs[0].shape: a batch of 8 rows needs more than"));
}

#[test]
fn a_missing_file_is_named() {
    let error = ModelSpec::read(Path::new("nowhere"), "m", "1").unwrap_err();
    assert!(
        error.to_string().contains("nowhere/m/model.toml"),
        "{error}"
    );
}

#[test]
fn plain_inputs_need_neither_datatype_nor_shape() {
    let plain = "[[inputs]]\nname = \"k\"\nkind = \"int\"\nvalue = 5\noptional = true\n\
                 [[inputs]]\nname = \"by\"\nkind = \"float\"\nvalue = 2\n\
                 [[inputs]]\nname = \"how\"\nkind = \"str\"\n";
    let spec = parse(&format!("{TENSORS}{plain}")).unwrap();
    let [_, k, by, how] = &spec.signature.inputs[..] else {
        panic!("four inputs")
    };
    assert_eq!(
        (k.datatype, &*k.axes),
        (Datatype::Int64, &[Axis::Fixed(1)][..])
    );
    assert_eq!(by.datatype, Datatype::Fp64);
    assert_eq!(how.datatype, Datatype::Bytes);
    let zeros = spec.signature.zeros(3).tensors;
    assert_eq!(zeros[1].as_i64().unwrap(), [5]);
    assert_eq!(zeros[2].elements::<f64>().unwrap().next(), Some(2.0));
}

#[test]
fn what_cannot_be_of_a_plain_input_is_refused() {
    let plain = |keys: &str| faults(&format!("{TENSORS}[[inputs]]\nname = \"k\"\n{keys}\n"));
    for (keys, expected) in [
        (
            "kind = \"int\"\noptional = true",
            "inputs[1].optional: needs a `value`",
        ),
        (
            "kind = \"int\"\nvalue = 0.5",
            "inputs[1].value: expected a value of the kind, INT64",
        ),
        (
            "kind = \"bool\"\nvalue = \"x\"",
            "inputs[1].value: expected a value of the kind, BOOL",
        ),
        (
            "kind = \"int\"\ndatatype = \"FP32\"",
            "inputs[1].kind: expected INT64 of shape [1]",
        ),
        (
            "kind = \"int\"\nshape = [2]",
            "inputs[1].kind: expected INT64 of shape [1]",
        ),
        (
            "datatype = \"FP32\"\nshape = [-1]\nvalue = 1",
            "inputs[1].value: only with kind",
        ),
        (
            "datatype = \"BYTES\"\nshape = [-1, 2]",
            "inputs[1].shape: expected one axis",
        ),
    ] {
        let faults = plain(keys);
        assert!(faults.contains(expected), "{keys}: {faults}");
    }
    let alone = TENSORS.replace(
        "datatype = \"FP32\"\nshape = [-1, 3, -1]\nwarm_up = [224]",
        "kind = \"int\"",
    );
    assert!(
        faults(&alone).contains("inputs: a model that batches needs an input of kind `tensor`")
    );
    let scripted = format!("platform = \"scripted\"\n{alone}");
    assert!(faults(&scripted).contains("inputs[0].kind: only with platform"));
}

#[test]
fn a_model_with_state_neither_batches_nor_has_two_instances() {
    let faults = faults(&format!("stateful = true\ninstances = 2\n{TENSORS}"));
    for expected in [
        "stateful: a model with state does not batch: set max_batch_size = 0",
        "stateful: a model with state has one instance, got instances = 2",
    ] {
        assert!(faults.contains(expected), "{faults}");
    }
    let tensors = TENSORS.replace("warm_up = [224]", "");
    let spec = parse(&format!("stateful = true\nmax_batch_size = 0\n{tensors}")).unwrap();
    assert!(spec.stateful);
}

#[test]
fn a_gpu_batches_more_unless_it_is_said_otherwise() {
    let rows = |text: &str| parse(&format!("{text}{TENSORS}")).unwrap().max_batch_rows;
    assert_eq!(rows("device = \"cuda:0\"\n"), 32);
    assert_eq!(rows("device = \"cuda:0\"\nmax_batch_size = 4\n"), 4);
}

#[test]
fn a_method_is_a_name_and_threads_are_some() {
    let faults = faults(&format!(
        "method = \"a.b\"\nintra_op_threads = 0\n{TENSORS}"
    ));
    for expected in [
        "method: expected the name of a method, got `a.b`",
        "intra_op_threads: expected a number from 1 to 256, got 0",
    ] {
        assert!(faults.contains(expected), "{faults}");
    }
}

/// `text` is BYTES, `x` and `y` are numbers.
const SAFETY: &str = "
max_batch_size = 8
[[inputs]]
name = \"x\"
datatype = \"FP32\"
shape = [-1, 4]
[[inputs]]
name = \"text\"
datatype = \"BYTES\"
shape = [-1]
[[outputs]]
name = \"y\"
datatype = \"FP32\"
shape = [-1, 2]
[safety]
";

#[test]
fn checks_are_taken_in_the_order_of_their_cost_and_what_is_off_is_none() {
    let text = format!(
        "{SAFETY}on_error = \"flag\"\nnan_inf_input = \"off\"\nsize = {{ max_rows = 4 }}\n\
         ood_input = [{{ input = \"x\", action = \"log\" }}]\n\
         blocklist = [{{ input = \"text\", words = [\"a\"] }}]\n\
         pattern = [{{ input = \"text\", patterns = [\"b\"], action = \"off\" }}]\n\
         range = [{{ input = \"x\", max = 1 }}]\n\
         low_confidence = [{{ output = \"y\", min = 0.5, action = \"flag\" }}]\n\
         guard = [{{ model = \"g\", inputs = {{ their = \"text\" }}, output = \"s\", max = 0.5 }}]"
    );
    let safety = parse(&text).unwrap().safety;
    let checks = |rules: &[Rule]| -> Vec<_> { rules.iter().map(|rule| rule.check).collect() };
    let inputs = [Check::Range, Check::Blocklist, Check::OodInput];
    assert_eq!(checks(&safety.inputs), inputs);
    let outputs = [Check::NanInfOutput, Check::LowConfidence];
    assert_eq!(checks(&safety.outputs), outputs);
    assert_eq!(safety.on_error, Action::Flag);
    assert_eq!(safety.size.unwrap().rows, Some(4));
    assert_eq!(safety.guards[0].inputs, [("their".to_owned(), 1)]);
    assert!(safety.needs_statistics());
    let words = Texts::words(&["a".to_owned()], true).unwrap();
    assert_eq!(safety.inputs[1].test, Test::Texts(words));
}

#[test]
fn every_fault_of_a_check_is_named_by_its_place() {
    for (keys, fault) in [
        ("schema = \"flag\"", "safety.schema: expected block or off"),
        (
            "range = [{ input = \"z\", min = 0 }]",
            "safety.range[0].input: expected one of x, text, got `z`",
        ),
        (
            "range = [{ input = \"x\" }]",
            "safety.range[0]: expected min or max, or both",
        ),
        (
            "range = [{ input = \"x\", min = 2, max = 1 }]",
            "safety.range[0].max: expected at least 2, which is min, got 1",
        ),
        (
            "range = [{ input = \"x\", min = nan }]",
            "safety.range[0].min: expected a finite number, got NaN",
        ),
        (
            "range = [{ input = \"text\", min = 0 }]",
            "safety.range[0].input: expected an input of numbers, `text` is BYTES",
        ),
        (
            "blocklist = [{ input = \"x\", words = [\"a\"] }]",
            "safety.blocklist[0].input: expected an input of text (BYTES), `x` is FP32",
        ),
        (
            "blocklist = [{ input = \"text\" }]",
            "safety.blocklist[0].words: expected at least one",
        ),
        (
            "pattern = [{ input = \"text\", patterns = [\"(\"] }]",
            "safety.pattern[0].patterns: ",
        ),
        (
            "ood_output = [{ output = \"x\" }]",
            "safety.ood_output[0].output: expected one of y, got `x`",
        ),
        (
            "guard = [{ inputs = { a = \"b\" }, output = \"s\" }]",
            "safety.guard[0].inputs.a: expected one of our inputs, got `b`",
        ),
        (
            "guard = [{ output = \"s\", inputs = { a = \"x\" } }]",
            "safety.guard[0].model: expected a name, got none",
        ),
    ] {
        let faults = faults(&format!("{SAFETY}{keys}"));
        assert!(faults.contains(fault), "{keys}: {faults}");
    }
}

#[test]
fn tensors_may_be_optional_and_elements_of_a_list() {
    let input = |name: &str, keys: &str| {
        format!("[[inputs]]\nname = \"{name}\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n{keys}\n")
    };
    let mask = input("mask", "optional = true");
    let (a, b) = (input("a", "list = \"xs\""), input("b", "list = \"xs\""));
    let spec = parse(&format!("{TENSORS}{mask}{a}{b}")).unwrap();
    let inputs = &spec.signature.inputs;
    let optional: Vec<_> = inputs.iter().map(|spec| spec.optional).collect();
    assert_eq!(optional, [false, true, false, false]);
    let lists: Vec<_> = inputs.iter().map(|spec| spec.list.as_deref()).collect();
    assert_eq!(lists, [None, None, Some("xs"), Some("xs")]);

    let told = |inputs: &str| faults(&format!("{TENSORS}{inputs}"));
    let apart = told(&format!("{a}{mask}{b}"));
    assert!(apart.contains("inputs[3].list: the inputs of `xs` must stand one after the other"));
    let both = told(&input("a", "list = \"xs\"\noptional = true"));
    assert!(both.contains("inputs[1].optional: an element of a list cannot be left out"));
    let nameless = told(&input("a", "list = \"\""));
    assert!(nameless.contains("inputs[1].list: expected the name of an argument"));
    let plain = told("[[inputs]]\nname = \"k\"\nkind = \"int\"\nlist = \"xs\"\n");
    assert!(plain.contains("inputs[1].list: only with kind = \"tensor\""));
    let text = input("t", "list = \"xs\"")
        .replace("FP32", "BYTES")
        .replace("[-1, 2]", "[-1]");
    assert!(told(&text).contains("inputs[1].list: expected numbers"));
    // Rows are counted by something.
    let alone = TENSORS.replace("warm_up = [224]", "warm_up = [224]\noptional = true");
    assert!(faults(&alone).contains(
        "inputs: a model that batches needs an input of kind `tensor` that is not optional"
    ));
    let scripted = format!("platform = \"scripted\"\n{alone}");
    assert!(faults(&scripted).contains("inputs[0].optional: only with platform"));
}

#[test]
fn lengths_are_taken_with_what_fills_them_and_what_follows_them() {
    let text = |input: &str, output: &str| {
        format!(
            "[[inputs]]\nname = \"t\"\ndatatype = \"INT64\"\nshape = [-1, -1]\n{input}\n\
             [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n\
             [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1, 3, -1]\n{output}\n"
        )
    };
    let spec = parse(&text("pad_to = [16, 64]\npad_with = 1", "unpad = \"t\"")).unwrap();
    let padding = spec.signature.inputs[0].padding.clone().unwrap();
    assert_eq!((padding.axis, &*padding.lengths), (1, &[16, 64][..]));
    assert_eq!(padding.with, 1_i64.to_le_bytes());
    let follows = spec.signature.outputs[0].follows.unwrap();
    assert_eq!((follows.axis, follows.input), (2, 0));
    // What a request may be at the most is what has to be in memory.
    assert_eq!(spec.signature.inputs[0].example, [64]);

    for (input, output, told) in [
        ("pad_with = 1", "", "inputs[0].pad_with: only with pad_to"),
        (
            "pad_to = [64, 16]",
            "",
            "inputs[0].pad_to: expected at most 16 sizes",
        ),
        (
            "pad_to = [0, 16]",
            "",
            "inputs[0].pad_to: expected at most 16 sizes",
        ),
        (
            "pad_to = [16]\npad_with = 0.5",
            "",
            "inputs[0].pad_with: expected a value of INT64",
        ),
        (
            "pad_to = [16]\nwarm_up = [16]",
            "",
            "inputs[0].warm_up: its lengths are warmed up",
        ),
        (
            "pad_to = [16]",
            "unpad = \"x\"",
            "outputs[0].unpad: expected the name of an input with pad_to, got `x`",
        ),
        (
            "pad_to = [100000000]",
            "",
            "inputs[0].shape: a batch of 8 rows needs more than",
        ),
    ] {
        let faults = faults(&text(input, output));
        assert!(faults.contains(told), "{told}: {faults}");
    }
    let fixed = text("pad_to = [16]", "").replace("[-1, -1]", "[-1, 4]");
    assert!(
        faults(&fixed)
            .contains("inputs[0].pad_to: expected one free axis beside the batch axis, got 0")
    );
    let alone = format!("max_batch_size = 0\n{}", text("pad_to = [16]", ""));
    assert!(
        faults(&alone).contains("inputs[0].pad_to: only for tensors of requests that run together")
    );
}
