package parity_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/meshtrace/meshtrace/internal/parity"
)

// subject is one recorded answer: a vector or a live case.
type subject struct {
	topic, name string
	vector      *parity.Vector
	live        *parity.Case
}

// exemption is a rule that is not kept, and the differences that come of it. Whoever
// is not in a list of these is held to Envoy's answer.
type exemption struct {
	rule     string // of RULES.md
	reason   string
	explains func(s subject, difference string) bool
}

// tally counts what became of the cases of one file.
type tally struct {
	file                                   string
	passed, failed, notApplicable, waiting int
	exempt                                 []exemption // what a Go program cannot do
	notYet                                 []exemption // what is still to be built, counted as waiting
	used                                   map[string]bool
}

func newTally(file string, exempt, notYet []exemption) *tally {
	return &tally{file: file, exempt: exempt, notYet: notYet, used: make(map[string]bool)}
}

// run holds one case against check, as a subtest. A case that check accepts has
// passed, whatever the lists say; one that it does not has failed unless the lists
// explain each difference.
func (n *tally) run(t *testing.T, s subject, check func() error) {
	t.Run(s.topic+"/"+strings.TrimPrefix(s.name, s.topic+"/"), func(t *testing.T) {
		err := guarded(check)
		if err == nil {
			n.passed++
			return
		}
		waiting, reasons := false, []string{}
		for difference := range strings.SplitSeq(err.Error(), "\n") {
			e, ok := n.find(n.exempt, s, difference)
			if !ok {
				e, ok = n.find(n.notYet, s, difference)
				waiting = true
			}
			if !ok {
				n.failed++
				t.Fatal(err)
			}
			reasons = append(reasons, fmt.Sprintf("%s, %s: %s", e.rule, e.reason, difference))
		}
		if waiting {
			n.waiting++
			t.Skipf("waiting\n%s", strings.Join(reasons, "\n"))
		}
		n.notApplicable++
		t.Skipf("not applicable\n%s", strings.Join(reasons, "\n"))
	})
}

func (n *tally) find(list []exemption, s subject, difference string) (exemption, bool) {
	for _, e := range list {
		if e.explains(s, difference) {
			n.used[e.rule+e.reason] = true
			return e, true
		}
	}
	return exemption{}, false
}

// report prints the tally and the entries of the lists that cases needed. whole says
// that every case of the repository's own file ran: then an entry of notYet that no
// case needs is done, and said to be.
func (n *tally) report(whole bool) {
	fmt.Printf("%s: %d passed, %d failed, %d not applicable, %d waiting\n", n.file, n.passed, n.failed, n.notApplicable, n.waiting)
	told := make(map[string]bool)
	for _, e := range n.exempt {
		if key := e.rule + e.reason; n.used[key] && !told[key] {
			told[key] = true
			fmt.Printf("%s: not applicable, %s: %s\n", n.file, e.rule, e.reason)
		}
	}
	for _, e := range n.notYet {
		switch {
		case n.used[e.rule+e.reason]:
			fmt.Printf("%s: waiting for %s: %s\n", n.file, e.rule, e.reason)
		case whole:
			fmt.Printf("%s: nothing waits for %s any more: %s\n", n.file, e.rule, e.reason)
		}
	}
}

// guarded turns a panic of check into an error, so that the other cases run.
func guarded(check func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return check()
}

// dataFile returns the file to run, and whether it is the repository's own.
func dataFile(variable, name string) (path string, own bool) {
	if path := os.Getenv(variable); path != "" {
		return path, false
	}
	return filepath.Join("testdata", name), true
}

// mismatches collects what differs between an answer and the recorded one.
type mismatches []string

func (m *mismatches) addf(format string, args ...any) { *m = append(*m, fmt.Sprintf(format, args...)) }

func equal[T comparable](m *mismatches, what string, got, want T) {
	if got != want {
		m.addf("%s = %v, want %v", what, got, want)
	}
}

func (m mismatches) err() error {
	if len(m) == 0 {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(m, "\n"))
}

// decode reads the three parts of a vector. A field that the caller has no place for
// is an error, so that none is passed over.
func decode(v parity.Vector, in, config, out any) error {
	for _, part := range []struct {
		name string
		from json.RawMessage
		into any
	}{{"in", v.In, in}, {"config", v.Config, config}, {"out", v.Out, out}} {
		dec := json.NewDecoder(bytes.NewReader(part.from))
		dec.DisallowUnknownFields()
		if err := dec.Decode(part.into); err != nil {
			return fmt.Errorf("%s %s: %w", part.name, part.from, err)
		}
	}
	return nil
}

// fields is a header as vectors write it: null is absent, a list is several lines.
type fields map[string]parity.Lines

// lines returns the header lines in an order of their own.
func (f fields) lines() []parity.Field {
	var list []parity.Field
	for name, values := range f {
		for _, v := range values {
			list = append(list, parity.Field{name, v})
		}
	}
	slices.SortStableFunc(list, func(a, b parity.Field) int { return strings.Compare(a[0], b[0]) })
	return list
}

// first returns the first line and whether there is one.
func (f fields) first(name string) (string, bool) {
	if len(f[name]) == 0 {
		return "", false
	}
	return f[name][0], true
}

// only returns an error unless every name in f is one of names.
func (f fields) only(names ...string) error {
	for name := range f {
		if !slices.Contains(names, name) {
			return fmt.Errorf("in: header %q is none that this topic knows", name)
		}
	}
	return nil
}
