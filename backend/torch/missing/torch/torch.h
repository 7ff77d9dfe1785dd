// Found only where libtorch is not: `.cargo/config.toml` puts this folder last on the search path
// of C++ headers. So a build without libtorch ends with this sentence and not with a riddle.
// An `#include`, because that stops the compiler at once; `#error` would let it go on for 200,000
// lines.
#include <there is no libtorch: run `make setup`>
