package exporter

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// readLines returns the spans of OTLP/JSON lines, read as a Collector reads them: each
// line a request, of at most 1 MiB.
func readLines(t *testing.T, text []byte) (spans []otlpwire.Span, torn int) {
	t.Helper()
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		request, err := otlpwire.ReadJSON(line)
		if err != nil {
			torn++
			continue
		}
		if len(line) > maxLineBytes {
			t.Errorf("line of %d bytes", len(line))
		}
		more, err := otlpwire.Decode(request)
		if err != nil {
			t.Fatal(err)
		}
		spans = append(spans, more...)
	}
	return spans, torn
}

func TestJSONLines(t *testing.T) {
	var out bytes.Buffer
	e := start(t, Config{Sender: JSONLines(&out)})
	end(e, 0, 20000, padding(100)) // more than a line may hold
	if err := e.Shutdown(withTimeout(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	spans, torn := readLines(t, out.Bytes())
	if len(spans) != 20000 || torn != 0 || !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
		t.Errorf("%d spans, %d torn lines", len(spans), torn)
	}
	if st := checkAccounts(t, e, Kept{}); st.Delivered != 20000 || st.LastError != nil {
		t.Errorf("delivered %d: %v", st.Delivered, st.LastError)
	}
}

// failingWriter takes a part of some writes and fails.
type failingWriter struct {
	mu    sync.Mutex
	out   bytes.Buffer
	calls int
}

func (w *failingWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls++; w.calls <= 3 {
		n := len(p) * (w.calls - 1) / 4
		w.out.Write(p[:n])
		if w.calls == 2 {
			return n, nil // against io.Writer's contract
		}
		return n, errors.New("disk full")
	}
	return w.out.Write(p)
}

// Whatever a writer fails with, every span is whole on a line of its own in the end.
func TestJSONLinesFailingWriter(t *testing.T) {
	w := &failingWriter{}
	e := start(t, Config{Sender: JSONLines(w)})
	end(e, 0, 10)
	for e.Stats().Delivered < 10 {
		time.Sleep(time.Millisecond)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if spans, torn := readLines(t, w.out.Bytes()); len(spans) != 10 || torn == 0 {
		t.Errorf("%d spans, %d torn lines in %q", len(spans), torn, w.out.Bytes())
	}
	if l := logged(e); len(l) == 0 || l[0] != "exporter: the writer of JSONLines: disk full" {
		t.Errorf("lines %q", l)
	}
}

// A file is appended to, made again when it was moved away, and begun on a new line
// where another process stopped within one.
func TestFileEndpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spans.jsonl")
	if err := os.WriteFile(path, []byte(`{"resourceSpans":[{"sco`), 0o600); err != nil {
		t.Fatal(err)
	}
	e := start(t, Config{Endpoint: "localhost:1", Getenv: env("OTEL_EXPORTER_OTLP_ENDPOINT", "file:"+path)})
	flush := func(from, to int) {
		t.Helper()
		end(e, from, to)
		if err := e.ForceFlush(withTimeout(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string, want, wantTorn int) {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if spans, torn := readLines(t, b); len(spans) != want || torn != wantTorn {
			t.Errorf("%d spans and %d torn lines, want %d and %d: %q", len(spans), torn, want, wantTorn, b)
		}
	}
	flush(0, 5)
	flush(5, 10)
	read(path, 10, 1)
	if runtime.GOOS != "windows" { // where an open file cannot be moved
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		flush(10, 13)
		read(path+".1", 10, 1)
		read(path, 3, 0)
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", fi.Mode(), err)
		}
	}
	if s := e.Settings()[0]; s != (Setting{"Endpoint", "file:" + path, "OTEL_EXPORTER_OTLP_ENDPOINT"}) {
		t.Errorf("setting %+v", s)
	}
	if l := logged(e); len(l) != 0 {
		t.Errorf("lines %q", l)
	}
}

func TestFileEndpointCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "none", "spans.jsonl")
	e := start(t, Config{Endpoint: "file://" + path})
	for deadline := time.Now().Add(time.Second + slack); len(logged(e)) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	want := "exporter: file:" + path + ": no such file or directory: make it writable, or give another file or an address as endpoint"
	if l := logged(e); len(l) != 1 || runtime.GOOS == "linux" && l[0] != want && len(want) <= maxLine {
		t.Errorf("lines %q, want %q", l, want)
	}
	end(e, 0, 5)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := e.Shutdown(withTimeout(t, time.Minute)); err != nil {
		t.Errorf("Shutdown once it can be: %v", err)
	}
}

// The answer to a span whose JSON is larger than a line alone is that it goes all the same.
func TestJSONLinesLongSpan(t *testing.T) {
	s := JSONLines(io.Discard)
	e := start(t, Config{Sender: s})
	e.OnEnd(makeSpan(0, padding(2<<20)))
	end(e, 1, 10)
	if err := e.Shutdown(withTimeout(t, time.Minute)); err != nil {
		t.Error(err)
	}
	if st := e.Stats(); st.Delivered != 10 || st.Cut != 0 || !strings.Contains(e.settings.line(s), "Sender") {
		t.Errorf("delivered %d, cut %d", st.Delivered, st.Cut)
	}
}
