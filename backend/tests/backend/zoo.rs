//! TorchScript models of the kinds that people have, through the whole server: arguments that are no
//! tensors, dicts, strings, methods, state.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use aegis_protocol::Tensor;
use aegis_torch::archive::Archive;
use aegis_torch::{Device, Module};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Backend;

/// The description of one input `x`, FP32 rows of two.
const X: &str = "[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n";
/// And of one output like it.
const Y: &str = "[[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n";

/// A repository with one model, whose methods are these.
fn repository(methods: &str, model: &str) -> TempDir {
    let digits = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../config/models/digits/1/model.pt"
    );
    let mut archive = Archive::read(&fs::read(digits).unwrap()).unwrap();
    let source = format!("class digits(Module):\n{methods}");
    archive.replace_source(&source).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let version = folder.path().join("m/1");
    fs::create_dir_all(&version).unwrap();
    fs::write(version.join("model.pt"), archive.write().unwrap()).unwrap();
    fs::write(folder.path().join("m/model.toml"), model).unwrap();
    folder
}

async fn serve(folder: &Path) -> Backend {
    let keys = format!("model_repository = {:?}", folder.to_str().unwrap());
    Backend::in_place(&keys, "[models.m]\nversions = [\"1\"]")
        .await
        .when_ready()
        .await
}

fn input(name: &str, datatype: &str, shape: &[usize], data: &Value) -> Value {
    json!({ "name": name, "datatype": datatype, "shape": shape, "data": data })
}

fn x(data: &Value) -> Value {
    input("x", "FP32", &[1, 2], data)
}

/// The answer's data, by output; or its status and error.
async fn ask(backend: &Backend, inputs: &[Value]) -> Result<Vec<Value>, (u16, String)> {
    let body = json!({ "inputs": inputs }).to_string();
    let reply = backend.infer("m", body).await;
    if reply.status != 200 {
        return Err((reply.status.as_u16(), reply.error()));
    }
    let json = reply.json();
    let outputs = json["outputs"].as_array().unwrap();
    Ok(outputs.iter().map(|one| one["data"].clone()).collect())
}

#[tokio::test]
async fn numbers_booleans_and_texts_are_arguments_and_may_be_left_out() {
    let methods = "  def forward(self, x: Tensor, k: int, by: float, on: bool, how: str) -> Tensor:
    y = x
    if torch.eq(how, \"scale\"):
      y = torch.mul(torch.mul(x, k), by)
    if on:
      y = torch.neg(y)
    return y
";
    let plain = "[[inputs]]\nname = \"k\"\nkind = \"int\"\n\
                 [[inputs]]\nname = \"by\"\nkind = \"float\"\nvalue = 0.5\noptional = true\n\
                 [[inputs]]\nname = \"on\"\nkind = \"bool\"\nvalue = false\noptional = true\n\
                 [[inputs]]\nname = \"how\"\nkind = \"str\"\nvalue = \"scale\"\noptional = true\n";
    let folder = repository(methods, &format!("{X}{plain}{Y}"));
    let backend = serve(folder.path()).await;
    let x = x(&json!([1.0, 2.0]));
    let k = input("k", "INT64", &[1], &json!([6]));
    let short = ask(&backend, &[k.clone(), x.clone()]).await;
    assert_eq!(short.unwrap(), [json!([3.0, 6.0])]);
    let by = input("by", "FP64", &[1], &json!([2.0]));
    let on = input("on", "BOOL", &[1], &json!([true]));
    let whole = ask(&backend, &[by, on, k.clone(), x.clone()]).await;
    assert_eq!(whole.unwrap(), [json!([-12.0, -24.0])]);
    let how = input("how", "BYTES", &[1], &json!(["as it is"]));
    let other = ask(&backend, &[x.clone(), how, k.clone()]).await;
    assert_eq!(other.unwrap(), [json!([1.0, 2.0])]);
    let (status, error) = ask(&backend, std::slice::from_ref(&x)).await.unwrap_err();
    assert_eq!((status, error.contains("`k`")), (400, true), "{error}");
    let nul = input("how", "BYTES", &[1], &json!(["a\u{0}b"]));
    let (status, error) = ask(&backend, &[x, k, nul]).await.unwrap_err();
    assert_eq!((status, error.contains("`how`")), (400, true), "{error}");
}

/// Multiplies with a mask, or turns the sign where there is none.
const MASKED: &str = "  def forward(self, x: Tensor, mask: Optional[Tensor]=None) -> Tensor:
    if torch.__isnot__(mask, None):
      mask0 = unchecked_cast(Tensor, mask)
      y = torch.mul(x, mask0)
    else:
      y = torch.neg(x)
    return y
";

#[tokio::test]
async fn an_optional_tensor_may_be_missing_and_each_request_gets_what_it_asked_for() {
    let folder = repository(MASKED, "");
    let more = ["--input", "x=FP32[-1,2]", "--input", "mask=FP32[-1,2]"];
    let draft = take_draft(folder.path(), &more);
    let told = "name = \"mask\"\ndatatype = \"FP32\"\nshape = [-1, 2]\noptional = true\n";
    assert!(draft.contains(told), "{draft}");
    assert!(draft.contains("max_batch_size = 8\n"), "{draft}");
    let backend = serve(folder.path()).await;
    let x = |by: f64| x(&json!([by, 2.0 * by]));
    let mask = input("mask", "FP32", &[1, 2], &json!([0.0, 1.0]));
    // At the same time, so that some wait together for the instance.
    let asked = (1..=16).map(|at| {
        let (backend, by, mask) = (&backend, f64::from(at), mask.clone());
        async move {
            if at % 2 == 0 {
                let answer = ask(backend, &[x(by), mask]).await.unwrap();
                assert_eq!(answer, [json!([0.0, 2.0 * by])]);
            } else {
                let answer = ask(backend, &[x(by)]).await.unwrap();
                assert_eq!(answer, [json!([-by, -2.0 * by])]);
            }
        }
    });
    futures::future::join_all(asked).await;
    let (status, error) = ask(&backend, std::slice::from_ref(&mask))
        .await
        .unwrap_err();
    assert_eq!(
        (status, error.contains("`x`, which is missing")),
        (400, true),
        "{error}"
    );
    let wrong = input("mask", "FP32", &[1, 3], &json!([0.0, 1.0, 2.0]));
    let (status, error) = ask(&backend, &[x(1.0), wrong]).await.unwrap_err();
    assert_eq!(
        (status, error.contains("`mask`.shape")),
        (400, true),
        "{error}"
    );
    let rows = input("mask", "FP32", &[2, 2], &json!([0.0, 1.0, 0.0, 1.0]));
    let (status, error) = ask(&backend, &[x(1.0), rows]).await.unwrap_err();
    assert_eq!((status, error.contains("`mask`")), (400, true), "{error}");
}

#[tokio::test]
async fn tensors_with_names_of_their_own_are_a_list_to_the_model() {
    let methods = "  def forward(self, xs: List[Tensor], by: Tensor) -> Tensor:
    return torch.mul(torch.cat(xs, 1), by)
";
    let folder = repository(methods, "");
    let more = ["xs=FP32[-1,2]", "xs=FP32[-1,1]", "by=FP32[-1,1]"];
    let more: Vec<_> = more.iter().flat_map(|one| ["--input", *one]).collect();
    let draft = take_draft(folder.path(), &more);
    let told = "name = \"xs_1\"\ndatatype = \"FP32\"\nshape = [-1, 1]\nlist = \"xs\"\n";
    assert!(draft.contains(told), "{draft}");
    let backend = serve(folder.path()).await;
    let by = |by: f64| input("by", "FP32", &[1, 1], &json!([by]));
    let first = input("xs_0", "FP32", &[1, 2], &json!([1.0, 2.0]));
    let second = input("xs_1", "FP32", &[1, 1], &json!([3.0]));
    let asked = (1..=8).map(|at| {
        let (backend, by_at) = (&backend, f64::from(at));
        let inputs = [by(by_at), second.clone(), first.clone()];
        async move {
            let answer = ask(backend, &inputs).await.unwrap();
            assert_eq!(answer, [json!([by_at, 2.0 * by_at, 3.0 * by_at])]);
        }
    });
    futures::future::join_all(asked).await;
    let (status, error) = ask(&backend, &[by(1.0), first]).await.unwrap_err();
    assert_eq!(
        (status, error.contains("`xs_1`, which is missing")),
        (400, true),
        "{error}"
    );
}

#[tokio::test]
async fn requests_of_different_lengths_are_filled_up_and_answered_as_long_as_they_came() {
    // Fails on every length but those that it was told of, and counts what fills them up.
    let methods = "  def forward(self, t: Tensor) -> Tuple[Tensor, Tensor]:
    n = torch.size(t, 1)
    if torch.__and__(torch.ne(n, 4), torch.ne(n, 8)):
      ops.prim.RaiseException(\"another length\")
    return (torch.neg(t), torch.sum(torch.eq(t, 9), [1]))
";
    let model = "[[inputs]]\nname = \"t\"\ndatatype = \"INT64\"\nshape = [-1, -1]\n\
                 pad_to = [4, 8]\npad_with = 9\n\
                 [[outputs]]\nname = \"u\"\ndatatype = \"INT64\"\nshape = [-1, -1]\nunpad = \"t\"\n\
                 [[outputs]]\nname = \"nines\"\ndatatype = \"INT64\"\nshape = [-1]\n";
    let folder = repository(methods, model);
    let backend = serve(folder.path()).await;
    let t = |length: usize| input("t", "INT64", &[1, length], &json!(vec![1; length]));
    let asked = (1..=8).map(|length| {
        let (backend, inputs) = (&backend, [t(length)]);
        async move {
            let answer = ask(backend, &inputs).await.unwrap();
            let filled = if length <= 4 { 4 } else { 8 };
            assert_eq!(answer, [json!(vec![-1; length]), json!([filled - length])]);
        }
    });
    futures::future::join_all(asked).await;
    let (status, error) = ask(&backend, &[t(9)]).await.unwrap_err();
    let told = error.contains("`t`.shape: expected at most 8 on axis 1");
    assert_eq!((status, told), (400, true), "{error}");
}

#[tokio::test]
async fn a_dict_is_taken_by_name_and_another_method_than_forward_called() {
    let methods = "  def forward(self, x: Tensor) -> Tensor:
    return x
  def encode(self, x: Tensor) -> Dict[str, Tensor]:
    return {\"sum\": torch.sum(x, [1]), \"unused\": x, \"y\": torch.neg(x)}
";
    let sum = "[[outputs]]\nname = \"sum\"\ndatatype = \"FP32\"\nshape = [-1]\n";
    let folder = repository(methods, &format!("method = \"encode\"\n{X}{Y}{sum}"));
    let backend = serve(folder.path()).await;
    let answer = ask(&backend, &[x(&json!([1.0, 2.0]))]).await.unwrap();
    assert_eq!(answer, [json!([-1.0, -2.0]), json!([3.0])]);
}

#[tokio::test]
async fn texts_are_lists_of_strings_row_by_row() {
    let methods = "  def forward(self, t: List[str]) -> List[str]:\n    return t\n";
    let model = "[[inputs]]\nname = \"t\"\ndatatype = \"BYTES\"\nshape = [-1]\n\
                 [[outputs]]\nname = \"u\"\ndatatype = \"BYTES\"\nshape = [-1]\n";
    let folder = repository(methods, model);
    let backend = serve(folder.path()).await;
    let t = |texts: Value| input("t", "BYTES", &[2], &texts);
    let answer = ask(&backend, &[t(json!(["gr\u{fc}n", ""]))]).await.unwrap();
    assert_eq!(answer, [json!(["gr\u{fc}n", ""])]);
    let (status, error) = ask(&backend, &[t(json!(["fine", "a\u{0}b"]))])
        .await
        .unwrap_err();
    assert_eq!(
        (status, error.contains("element 1")),
        (400, true),
        "{error}"
    );
}

#[tokio::test]
async fn unsigned_integers_go_in_and_out_as_what_they_are() {
    let methods = "  def forward(self, n: Tensor) -> Tensor:\n    return torch.mul(n, 2)\n";
    let model = "[[inputs]]\nname = \"n\"\ndatatype = \"UINT32\"\nshape = [-1]\n\
                 [[outputs]]\nname = \"m\"\ndatatype = \"UINT32\"\nshape = [-1]\n";
    let folder = repository(methods, model);
    let backend = serve(folder.path()).await;
    let n = |value: u32| input("n", "UINT32", &[1], &json!([value]));
    let answer = ask(&backend, &[n(2_000_000_000)]).await.unwrap();
    assert_eq!(answer, [json!([4_000_000_000_u32])]);
    let (status, error) = ask(&backend, &[n(u32::MAX)]).await.unwrap_err();
    let told = error.contains("does not fit into UINT32");
    assert_eq!((status, told), (500, true), "{error}");
}

#[tokio::test]
async fn a_model_that_does_not_batch_answers_plain_values() {
    let methods = "  def forward(self, v: Tensor) -> Tuple[int, Tuple[float, str]]:
    return (torch.numel(v), (0.5, \"half\"))
";
    let output = |name: &str, datatype: &str| {
        format!("[[outputs]]\nname = \"{name}\"\ndatatype = \"{datatype}\"\nshape = [1]\n")
    };
    let outputs = [("n", "INT64"), ("f", "FP64"), ("s", "BYTES")].map(|(n, d)| output(n, d));
    let v = "max_batch_size = 0\n[[inputs]]\nname = \"v\"\ndatatype = \"FP32\"\nshape = [-1]\n";
    let folder = repository(methods, &format!("{v}{}", outputs.concat()));
    let backend = serve(folder.path()).await;
    let v = input("v", "FP32", &[3], &json!([1.0, 2.0, 3.0]));
    let answer = ask(&backend, &[v]).await.unwrap();
    assert_eq!(answer, [json!([3]), json!([0.5]), json!(["half"])]);
}

#[tokio::test]
async fn a_result_of_another_datatype_than_declared_costs_only_its_request() {
    let methods = "  def forward(self, x: Tensor) -> Tensor:
    y = x
    if bool(torch.any(torch.gt(x, 100.))):
      y = torch.to(x, 7)
    return y
";
    let folder = repository(methods, &format!("{X}{Y}"));
    let backend = serve(folder.path()).await;
    let (bad, good) = (x(&json!([1.0, 200.0])), x(&json!([1.0, 2.0])));
    let (bad, good) = ([bad], [good]);
    let asked = futures::join!(ask(&backend, &bad), ask(&backend, &good));
    let (status, error) = asked.0.unwrap_err();
    let told = error.contains("`y`.datatype: expected FP32, got FP64");
    assert_eq!((status, told), (500, true), "{error}");
    assert_eq!(asked.1.unwrap(), [json!([1.0, 2.0])]);
}

#[tokio::test]
async fn a_module_with_state_keeps_it_and_begins_as_it_was_saved() {
    let methods = "  def forward(self, v: Tensor) -> Tensor:
    c = torch.add_(CONSTANTS.c0, v)
    return torch.reshape(torch.max(c), [1])
";
    let model = "stateful = true\nmax_batch_size = 0\n\
                 [[inputs]]\nname = \"v\"\ndatatype = \"FP32\"\nshape = [1]\n\
                 [[outputs]]\nname = \"m\"\ndatatype = \"FP32\"\nshape = [1]\n";
    let folder = repository(methods, model);
    let direct = Module::load(&folder.path().join("m/1/model.pt"), Device::Cpu).unwrap();
    let backend = serve(folder.path()).await;
    for step in [1.0, 2.0, 4.0, 8.0] {
        let expected = direct.run(&[Tensor::from_f32([1], &[step]).unwrap()]);
        let expected = f64::from(expected.unwrap()[0].as_f32().unwrap()[0]);
        let v = input("v", "FP32", &[1], &json!([step]));
        let answer = ask(&backend, &[v]).await.unwrap();
        let got = answer[0][0].as_f64().unwrap();
        assert!((got - expected).abs() < 1e-4, "{got} is not {expected}");
    }
}

/// What `inspect` says of the model in a repository.
fn inspect(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis-backend"));
    command.arg("inspect").arg(folder.join("m/1")).args(more);
    command.output().unwrap()
}

/// Puts a draft in the place of the description.
fn take_draft(folder: &Path, more: &[&str]) -> String {
    let output = inspect(folder, more);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    let draft = String::from_utf8(output.stdout).unwrap();
    fs::write(folder.join("m/model.toml"), &draft).unwrap();
    draft
}

#[tokio::test]
async fn a_draft_serves_as_it_is() {
    let methods = "  def forward(self, x: Tensor) -> Tensor:
    return x
  def encode(self, x: Tensor, k: int=2, on: bool=True) -> Dict[str, Tensor]:
    y = torch.mul(x, k)
    return {\"sum\": torch.sum(y, [1]), \"y\": torch.to(y, 7)}
";
    let folder = repository(methods, "");
    let more = ["--method", "encode", "--input", "x=FP32[-1,2]"];
    let draft = take_draft(folder.path(), &more);
    for told in [
        "method = \"encode\"",
        "max_batch_size = 8\n",
        "name = \"sum\"\ndatatype = \"FP32\"\nshape = [-1]\n",
        "name = \"y\"\ndatatype = \"FP64\"\nshape = [-1, 2]\n",
        "kind = \"int\"\nvalue = 2\noptional = true\n",
        "kind = \"bool\"\nvalue = true\noptional = true\n",
    ] {
        assert!(draft.contains(told), "{told}: {draft}");
    }
    let backend = serve(folder.path()).await;
    let answer = ask(&backend, &[x(&json!([1.0, 2.0]))]).await.unwrap();
    assert_eq!(answer, [json!([6.0]), json!([2.0, 4.0])]);
}

#[tokio::test]
async fn a_draft_says_that_a_module_keeps_state_and_that_rows_depend_on_each_other() {
    let counting = "  def forward(self, x: Tensor) -> Tensor:
    c = torch.add_(CONSTANTS.c0, 1)
    return torch.add(x, torch.max(c))
";
    let folder = repository(counting, "");
    let draft = take_draft(folder.path(), &["--input", "x=FP32[-1,2]"]);
    assert!(draft.contains("\nstateful = true\n"), "{draft}");
    assert!(draft.contains("\nmax_batch_size = 0 # the same inputs gave other answers"));
    serve(folder.path()).await;

    let mean =
        "  def forward(self, x: Tensor) -> Tensor:\n    return torch.sub(x, torch.mean(x))\n";
    let folder = repository(mean, "");
    let draft = take_draft(folder.path(), &["--input", "x=FP32[-1,2]"]);
    assert!(draft.contains("\nmax_batch_size = 0 # a row's answer depends on the rows beside it"));
    serve(folder.path()).await;
}

#[test]
fn a_draft_that_lacks_something_says_so_and_fails() {
    let methods =
        "  def forward(self, x: Tensor, y: Tensor) -> Tensor:\n    return torch.matmul(x, y)\n";
    let folder = repository(methods, "");
    let told = |more: &[&str]| {
        let output = inspect(folder.path(), more);
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8(output.stderr).unwrap();
        (told, String::from_utf8(output.stdout).unwrap())
    };
    let (error, draft) = told(&[]);
    assert!(
        error.contains("--input 'x=FP32[-1,…]' --input 'y=FP32[-1,…]'"),
        "{error}"
    );
    assert!(draft.contains("shape = [-1] # not known"), "{draft}");
    // What does not run is told in libtorch's words, in one line.
    let (error, _) = told(&["--input", "x=FP32[2,3]", "--input", "y=FP32[2,3]"]);
    assert!(
        error.contains("a run failed: the model failed: "),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    let (error, _) = told(&["--method", "encode"]);
    assert!(
        error.contains("no method `encode`; it has forward"),
        "{error}"
    );
    let (error, _) = told(&["--input", "z=FP32[1]"]);
    assert!(
        error.contains("`forward` has no such argument; it takes x, y"),
        "{error}"
    );
    fs::write(folder.path().join("m/1/model.pt"), "no zip").unwrap();
    let (error, _) = told(&[]);
    assert!(
        error.contains("m/1/model.pt: not a readable zip file"),
        "{error}"
    );
}
