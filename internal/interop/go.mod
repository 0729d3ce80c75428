// A module of its own: interoperability runs never reach the requirements of
// whoever uses the library.
module github.com/meshtrace/meshtrace/internal/interop

go 1.26.0
