package parity_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// feature is a row of features.json: something that users of tracing libraries look
// for, and the tests that fail without it.
type feature struct {
	// Row is "F-1" and up.
	Row string `json:"row"`
	// Need is M for must, S for should, L for later, X for left out.
	Need string `json:"need"`
	// What it is, in our words.
	What string `json:"what"`
	// Tests are "<directory>.<function>" or "<directory>.<function>/<subtest>".
	Tests []string `json:"tests"`
	// Issue is where a row without tests is to be built: a number, or "later".
	Issue string `json:"issue"`
}

const lastFeature = 163

func loadFeatures(data []byte) ([]feature, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var list []feature
	if err := dec.Decode(&list); err != nil {
		return nil, err
	}
	return list, nil
}

// testReference matches a directory with a test function, and what comes after.
var testReference = regexp.MustCompile(`^(.+?\.(?:Test|Fuzz|Example)\w*)(?:/(.+))?$`)

// checkFeatures returns what is wrong with the rows. functions has the test functions of
// every directory.
func checkFeatures(list []feature, functions map[string]testFunction) (faults []string) {
	fault := func(f feature, format string, args ...any) {
		faults = append(faults, f.Row+": "+fmt.Sprintf(format, args...))
	}
	for i, f := range list {
		if want := fmt.Sprintf("F-%d", i+1); f.Row != want {
			fault(f, "stands in the place of %s", want)
		}
		if f.What == "" {
			fault(f, "does not say what it is")
		}
		switch f.Need {
		case "M", "S":
			if (len(f.Tests) > 0) == (f.Issue != "") {
				fault(f, "has %d tests and issue %q, want one of the two", len(f.Tests), f.Issue)
			}
		case "L", "X":
			if len(f.Tests) > 0 || f.Issue != "" {
				fault(f, "is not built, and has %d tests and issue %q", len(f.Tests), f.Issue)
			}
		default:
			fault(f, "needs %q, want M, S, L or X", f.Need)
		}
		for _, name := range f.Tests {
			m := testReference.FindStringSubmatch(name)
			if m == nil {
				fault(f, "%q is no test: want <directory>.<function> or <directory>.<function>/<subtest>", name)
				continue
			}
			function, sub := m[1], m[2]
			found, ok := functions[function]
			switch {
			case !ok:
				fault(f, "there is no test %s", function)
			case sub != "" && !found.literals[sub]:
				fault(f, "%s has no subtest %q", function, sub)
			}
		}
	}
	if len(list) != lastFeature {
		faults = append(faults, fmt.Sprintf("%d rows, want %d", len(list), lastFeature))
	}
	return faults
}

// testFunction is a test function in a source.
type testFunction struct{ literals map[string]bool } // its strings, of which some name subtests

// testFunctions returns the test functions below root, those of nested modules included,
// by "<directory>.<function>".
func testFunctions(root string) (map[string]testFunction, error) {
	functions := make(map[string]testFunction)
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !isTestName(fn.Name.Name) {
				continue
			}
			literals := make(map[string]bool)
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if s, err := strconv.Unquote(lit.Value); err == nil {
						literals[s] = true
					}
				}
				return true
			})
			functions[filepath.ToSlash(dir)+"."+fn.Name.Name] = testFunction{literals}
		}
		return nil
	})
	return functions, err
}

func isTestName(name string) bool {
	return strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") || strings.HasPrefix(name, "Example")
}

// TestFeatures: every feature that this project promises has a test, which exists.
func TestFeatures(t *testing.T) {
	data, err := os.ReadFile("features.json")
	if err != nil {
		t.Fatal(err)
	}
	list, err := loadFeatures(data)
	if err != nil {
		t.Fatal(err)
	}
	functions, err := testFunctions(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if len(functions) < 400 {
		t.Errorf("found %d test functions: does this test still see them?", len(functions))
	}
	for _, f := range checkFeatures(list, functions) {
		t.Error(f)
	}
	count := map[string]int{}
	for _, f := range list {
		count[f.Need]++
		if f.Issue != "" {
			t.Logf("%s, %s: %s", f.Row, f.What, map[bool]string{true: "later", false: "issue " + f.Issue}[f.Issue == "later"])
		}
	}
	t.Logf("features: %d must, %d should, %d later, %d left out", count["M"], count["S"], count["L"], count["X"])
}

// TestFeaturesRefuses: the check finds what it is for.
func TestFeaturesRefuses(t *testing.T) {
	functions := map[string]testFunction{"a/b.TestIt": {map[string]bool{"a case": true}}}
	for _, tt := range []struct {
		f    feature
		want string
	}{
		{feature{Row: "F-1", Need: "M", What: "x", Tests: []string{"a/b.TestIt"}}, ""},
		{feature{Row: "F-1", Need: "S", What: "x", Tests: []string{"a/b.TestIt/a case"}}, ""},
		{feature{Row: "F-1", Need: "M", What: "x", Tests: []string{"a/b.TestIt/another"}}, "no subtest"},
		{feature{Row: "F-1", Need: "M", What: "x", Tests: []string{"a/b.TestOther"}}, "there is no test"},
		{feature{Row: "F-1", Need: "M", What: "x", Tests: []string{"a/b.It"}}, "is no test"},
		{feature{Row: "F-1", Need: "M", What: "x"}, "want one of the two"},
		{feature{Row: "F-1", Need: "S", What: "x", Issue: "8"}, ""},
		{feature{Row: "F-1", Need: "S", What: "x", Issue: "8", Tests: []string{"a/b.TestIt"}}, "want one of the two"},
		{feature{Row: "F-1", Need: "X", What: "x", Tests: []string{"a/b.TestIt"}}, "is not built"},
		{feature{Row: "F-1", Need: "?", What: "x"}, "want M, S, L or X"},
		{feature{Row: "F-1", Need: "L"}, "does not say"},
		{feature{Row: "F-2", Need: "L", What: "x"}, "in the place of F-1"},
	} {
		faults := checkFeatures([]feature{tt.f}, functions)
		faults = faults[:len(faults)-1] // that there is one row alone
		if got := strings.Join(faults, "; "); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%+v: faults %q, want %q", tt.f, got, tt.want)
		}
	}
	if _, err := loadFeatures([]byte(`[{"row": "F-1", "test": "a"}]`)); err == nil {
		t.Error("an unknown field passes")
	}
}
