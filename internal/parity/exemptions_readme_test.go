package parity_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the README says does not apply is what the cases are let off, with one reason a
// rule.
func TestReadmeListsExemptions(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "\nNot applicable, ")
	if !found {
		t.Fatal("README.md has no list of what does not apply")
	}
	listed := make(map[string]string)
	for _, row := range strings.Split(table, "\n")[1:] {
		if cells := strings.Split(row, "|"); len(cells) == 4 && !strings.HasPrefix(cells[1], "-") {
			listed[strings.TrimSpace(cells[1])] = strings.TrimSpace(cells[2])
		} else if strings.HasPrefix(row, "#") {
			break
		}
	}
	delete(listed, "rule") // the head
	used := make(map[string]string)
	for _, e := range slices.Concat(vectorExemptions, liveExemptions) {
		if why, ok := used[e.rule]; ok && why != e.reason {
			t.Errorf("%s has two reasons: %q and %q", e.rule, why, e.reason)
		}
		used[e.rule] = e.reason
	}
	if !maps.Equal(listed, used) {
		t.Errorf("README.md lists\n%v\nthe cases are let off\n%v", listed, used)
	}
}
