package linkcheck

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/meshtrace/meshtrace/"

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath, Name, Doc              string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

// ours returns the path inside the module, and whether the package is of it.
func ours(path string) (string, bool) { return strings.CutPrefix(path, module) }

// load lists every package of the module and all that they link.
func load(t *testing.T) map[string]*pkg {
	t.Helper()
	pkgs, err := list()
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

var list = sync.OnceValues(func() (map[string]*pkg, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Name,Doc,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	pkgs := make(map[string]*pkg)
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := new(pkg)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list's JSON: %w", err)
		}
		pkgs[p.ImportPath] = p
	}
})

// links returns what a program links by importing path, path included.
func links(pkgs map[string]*pkg, path string) map[string]bool {
	seen := make(map[string]bool)
	var visit func(string)
	visit = func(path string) {
		p := pkgs[path]
		if p == nil || seen[path] { // nil: "C", "unsafe"
			return
		}
		seen[path] = true
		for _, i := range p.Imports {
			visit(i)
		}
	}
	visit(path)
	return seen
}

// layer orders the packages: one may import those of lower layers alone.
// Helpers under internal/ may import each other besides, which the compiler
// keeps free of cycles.
func layer(path string) int {
	switch {
	case path == "requestid":
		return 1
	case path == "propagation", path == "internal/tracetree": // which says what a request id says
		return 2
	case path == "sampler", path == "span", path == "exporter":
		return 3
	case path == "middleware", strings.HasPrefix(path, "exporter/"):
		return 4
	case strings.HasPrefix(path, "middleware/"):
		return 5
	case strings.HasPrefix(path, "examples"), strings.HasPrefix(path, "internal/browsercheck"), strings.HasPrefix(path, "internal/w3ctest"): // programs
		return 6
	case strings.HasPrefix(path, "internal/"):
		return 0
	}
	return -1
}

// forTests are the packages that only tests import.
var forTests = []string{"internal/collectortest", "internal/difftest", "internal/linkcheck", "internal/metertest", "internal/parity", "internal/usercheck"}

func TestImportsRunOneWay(t *testing.T) {
	pkgs := load(t)
	for _, p := range pkgs {
		from, ok := ours(p.ImportPath)
		if !ok || slices.Contains(forTests, from) {
			continue
		}
		if layer(from) < 0 {
			t.Errorf("%s has no layer: say where it stands", from)
		}
		for _, i := range p.Imports {
			to, ok := ours(i)
			if !ok {
				continue
			}
			helpers := layer(from) == 0 && layer(to) == 0
			sameProgram := layer(from) == 6 && layer(to) == 6
			if layer(to) >= layer(from) && !helpers && !sameProgram {
				t.Errorf("%s imports %s, which stands beside or above it", from, to)
			}
			if slices.Contains(forTests, to) {
				t.Errorf("%s imports %s, which is for tests", from, to)
			}
		}
	}
	for _, must := range []string{"requestid", "propagation", "sampler", "span", "exporter", "middleware"} {
		if pkgs[module+must] == nil {
			t.Errorf("go list does not name %s", must)
		}
	}
}

func TestParityImportsNothingOfOurs(t *testing.T) {
	pkgs := load(t)
	p := pkgs[module+"internal/parity"]
	if p == nil {
		t.Fatal("go list does not name internal/parity")
	}
	// Its runners, in package parity_test, drive the whole of it.
	for _, i := range slices.Concat(p.Imports, p.TestImports) {
		if path, ok := ours(i); ok {
			t.Errorf("internal/parity imports %s", path)
		}
	}
}

// mayLinkGRPC are the packages whose importers ask for gRPC or protobuf.
func mayLinkGRPC(path string) bool {
	return path == "middleware/tracegrpc" || path == "exporter/otlpgrpc" || path == "internal/difftest" ||
		strings.HasPrefix(path, "examples/hotrod") || strings.HasPrefix(path, "examples/grpc")
}

func TestOnlyThoseWhoAskLinkGRPC(t *testing.T) {
	pkgs := load(t)
	for path := range pkgs {
		name, ok := ours(path)
		if !ok || mayLinkGRPC(name) {
			continue
		}
		for dep := range links(pkgs, path) {
			if strings.HasPrefix(dep, "google.golang.org/") {
				t.Errorf("importing %s links %s", name, dep)
			}
		}
	}
	for _, grpc := range []string{module + "middleware/tracegrpc", module + "exporter/otlpgrpc"} {
		if !links(pkgs, grpc)["google.golang.org/grpc"] {
			t.Errorf("importing %s does not link gRPC: does this test still see what is linked?", grpc)
		}
	}
	// Who traces gRPC need not export by it.
	if links(pkgs, module+"middleware/tracegrpc")[module+"exporter/otlpgrpc"] {
		t.Error("importing middleware/tracegrpc links exporter/otlpgrpc")
	}
}

func TestSmallImporters(t *testing.T) {
	pkgs := load(t)
	for _, name := range []string{"requestid", "propagation"} {
		for dep := range links(pkgs, module+name) {
			if strings.HasPrefix(dep, "go.opentelemetry.io/otel/sdk") || dep == "net/http/httptest" || dep == "testing" {
				t.Errorf("importing %s links %s", name, dep)
			}
		}
	}
}

func TestProgramsLinkNothingForTests(t *testing.T) {
	pkgs := load(t)
	deps := links(pkgs, module+"middleware")
	for _, bad := range []string{
		"testing", "net/http/httptest", // register flags, start servers
		"html/template", // 2.7 MB
		"go.opentelemetry.io/otel/sdk/trace/tracetest",
	} {
		if deps[bad] {
			t.Errorf("importing middleware links %s", bad)
		}
	}
}

// A user's `go mod tidy` records the sums of all that the tests of an imported
// package need.
func TestTestsBesideTheCodeNeedNoGRPC(t *testing.T) {
	for path, p := range load(t) {
		name, ok := ours(path)
		if !ok || mayLinkGRPC(name) {
			continue
		}
		for _, i := range slices.Concat(p.TestImports, p.XTestImports) {
			for _, bad := range []string{
				"google.golang.org/", "go.opentelemetry.io/proto/", "go.opentelemetry.io/contrib/",
				"go.opentelemetry.io/otel/exporters/", module + "middleware/tracegrpc", module + "exporter/otlpgrpc",
			} {
				if strings.HasPrefix(i, bad) {
					t.Errorf("a test of %s imports %s: it belongs in internal/difftest", name, i)
				}
			}
		}
	}
}

func TestEveryPackageHasItsPage(t *testing.T) {
	for path, p := range load(t) {
		name, ok := ours(path + "/")
		if !ok {
			continue
		}
		name = cmp.Or(strings.TrimSuffix(name, "/"), "the root package")
		generated := name == "examples/hotrod/driverpb" // its page stands with the commands that generate it
		if p.Name != "main" && !generated && !slices.Contains(p.GoFiles, "doc.go") {
			t.Errorf("%s has no doc.go", name)
		}
		if p.Doc == "" {
			t.Errorf("%s does not say what it is for", name)
		}
	}
}
