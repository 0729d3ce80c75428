package parity

import (
	"bytes"
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// families are the letters of the ids in the order of the page.
var families = []string{"RID-", "ED-", "D-", "N-", "T-", "E-", "S-", "W-", "B-", "O-", "O-L", "O-Z", "P-", "X-", "EG-", "GL-", "IS-"}

func TestRulesAreInOrder(t *testing.T) {
	rules := mustRules(t)
	family, number := 0, 0
	for _, r := range rules {
		letters := strings.TrimRight(r.ID, "0123456789")
		n, err := strconv.Atoi(r.ID[len(letters):])
		if err != nil {
			t.Fatalf("row %q: an id is letters and a number", r.ID)
		}
		if family < len(families) && letters != families[family] {
			family, number = family+1, 0
		}
		if family == len(families) || letters != families[family] {
			t.Fatalf("row %s: want the families in the order %v", r.ID, families)
		}
		if n != number+1 {
			t.Errorf("row %s after %s%d: want the numbers of a family without gap or repetition", r.ID, letters, number)
		}
		number = n
	}
	if family != len(families)-1 {
		t.Errorf("the page ends with %s, want %s", families[family], families[len(families)-1])
	}
}

func TestParseRulesRefuses(t *testing.T) {
	const head = "## Decision\n\n| id | when | Envoy | meshtrace |\n|---|---|---|---|\n"
	rules, err := parseRules("| word | meaning |\n|---|---|\n| same | as Envoy |\n\n" + head + "| D-1 | a | b | c |\n\nprose | with a bar |\n")
	if want := (Rule{ID: "D-1", Topic: "Decision", When: "a", Envoy: "b", Ours: "c"}); err != nil || len(rules) != 1 || rules[0] != want {
		t.Errorf("parseRules = %v, %v, want %v alone", rules, err, want)
	}
	for _, row := range []string{"| D-1 | a | b |", "| D-1 | a | b | c | d |", "| D-1 |  | b | c |", "| D-1 | a | b | c"} {
		if rules, err := parseRules(head + row + "\n"); err == nil {
			t.Errorf("parseRules of %q = %v, want an error", row, rules)
		}
	}
}

// citation matches an id that stands for itself. Header names (X-B3-TraceId),
// character sets (UTF-8) and hyphenated words are none.
var citation = regexp.MustCompile(`(?:^|[^-\w])((?:RID|ED|EG|GL|IS|[DNTESWBOPX])-\d+|O-[LZ]\d+)(?:[^-\w]|$)`)

func cited(text string) []string {
	var ids []string
	for {
		m := citation.FindStringSubmatchIndex(text)
		if m == nil {
			return ids
		}
		ids = append(ids, text[m[2]:m[3]])
		text = text[m[3]:] // the byte after an id may begin the next one
	}
}

func TestCitation(t *testing.T) {
	for text, want := range map[string][]string{
		"// D-7":                        {"D-7"},
		"// W-5: Envoy keeps bit 0":     {"W-5"},
		"RID-1..RID-8, O-4/O-L3 (O-Z6)": {"RID-1", "RID-8", "O-4", "O-L3", "O-Z6"},
		`"EG-9" and "IS-1"`:             {"EG-9", "IS-1"},
		"D-7 D-8":                       {"D-7", "D-8"},
		"B-13.":                         {"B-13"},
		"UTF-8 SHA-1 HTTP-2 ISO-8859-1": nil,
		"X-B3-TraceId x-b3-sampled":     nil,
		"F-30 H-2 RFC-9110 PB-1 AD-7":   nil,
		"COVID-19 d-7 D7 D- D-x":        nil,
		"2F-B-1-00 pre-D-7 D-7-bis":     nil,
		"D-7a _D-7 D-7_x":               nil,
	} {
		if got := cited(text); !slices.Equal(got, want) {
			t.Errorf("cited(%q) = %q, want %q", text, got, want)
		}
	}
}

// Every rule that a comment, a string or a page of the repository names has a
// row, so that whoever reads `// D-7` can look it up.
func TestEveryCitedRuleHasARow(t *testing.T) {
	known := make(map[string]bool)
	for _, r := range mustRules(t) {
		known[r.ID] = true
	}
	found := make(map[string]bool) // cited outside this package
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		var texts []text
		switch filepath.Ext(name) {
		case ".go":
			if filepath.Dir(path) == filepath.Join(root, "internal", "parity") && strings.HasSuffix(name, "_test.go") {
				return nil // ids made up for the tests of this package
			}
			texts, err = proseOfGo(path)
		case ".md", ".js", ".mjs", ".html", ".yaml":
			texts, err = lines(path)
		}
		if err != nil {
			return err
		}
		for _, tx := range texts {
			for _, id := range cited(tx.text) {
				if !known[id] {
					t.Errorf("%s:%d cites %s, which has no row in RULES.md", path, tx.line, id)
				}
				if !strings.Contains(path, "parity") {
					found[id] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"RID-9", "D-7", "W-5"} {
		if !found[id] {
			t.Errorf("the scan of the repository finds no citation of %s: is it still looking in the right place?", id)
		}
	}
}

type text struct {
	line int
	text string
}

// proseOfGo returns the comments and strings of a Go file: in code, N-1 is a difference.
func proseOfGo(path string) ([]text, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var (
		texts []text
		s     scanner.Scanner
		fset  = token.NewFileSet()
		file  = fset.AddFile(path, -1, len(src))
	)
	s.Init(file, src, nil, scanner.ScanComments)
	for {
		pos, tok, lit := s.Scan()
		switch tok {
		case token.EOF:
			if s.ErrorCount > 0 {
				return nil, fmt.Errorf("%s: not a Go file", path)
			}
			return texts, nil
		case token.COMMENT, token.STRING:
			texts = append(texts, text{file.Line(pos), lit})
		}
	}
}

func lines(path string) ([]text, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var texts []text
	for n, line := range bytes.Split(b, []byte("\n")) {
		texts = append(texts, text{n + 1, string(line)})
	}
	return texts, nil
}

func mustRules(t *testing.T) []Rule {
	t.Helper()
	rules, err := Rules()
	if err != nil {
		t.Fatal(err)
	}
	return rules
}
