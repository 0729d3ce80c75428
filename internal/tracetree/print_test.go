package tracetree

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
	"github.com/meshtrace/meshtrace/internal/semconv"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// checkText holds text to what Print promises of every line.
func checkText(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > lineWidth {
			t.Fatalf("a line of %d characters: %q", n, line)
		}
		for _, r := range line {
			if !strconv.IsPrint(r) || r == utf8.RuneError {
				t.Fatalf("%q in line %q", r, line)
			}
		}
	}
}

// ride is a small trace as the examples make them.
func ride() []otlpwire.Span {
	ms := uint64(time.Millisecond)
	mk := func(id, parent uint64, service, name string, kind int32, from, to uint64) otlpwire.Span {
		s := sp(id, parent, local)
		s.Name, s.Kind, s.Resource = name, kind, res(service)
		s.Start, s.End = from*ms, to*ms
		return s
	}
	root := mk(1, 0x99, "frontend", "GET /dispatch", server, 0, 702)
	root.Flags = remote
	root.Attributes = []attribute.KeyValue{semconv.EnvoyRequestID.String("a121e9e1-feae-9136-9e0e-6fac343d56c9")}
	failed := mk(8, 6, "redis", "GetDriver", client, 330, 363)
	failed.StatusCode, failed.StatusText = statusError, "redis timeout"
	typed := mk(9, 6, "redis", "GetDriver", client, 363, 380)
	typed.StatusCode, typed.Attributes = statusError, []attribute.KeyValue{semconv.ErrorType.String("timeout")}
	done := mk(10, 6, "redis", "GetDriver", client, 380, 391)
	done.StatusCode = statusOK
	return []otlpwire.Span{
		root,
		mk(2, 1, "frontend", "GET", client, 1, 300),
		mk(3, 2, "customer", "GET /customer", server, 2, 299),
		mk(4, 3, "mysql", "SQL SELECT", client, 3, 298),
		mk(5, 1, "frontend", "hotrod.DriverService/FindNearest", client, 301, 500),
		mk(6, 5, "driver", "hotrod.DriverService/FindNearest", server, 302, 499),
		mk(7, 6, "redis", "FindDriverIDs", client, 303, 330),
		failed, typed, done,
		mk(11, 1, "route", "GET /route", server, 500, 701),
	}
}

func TestPrint(t *testing.T) {
	hostile := ride()
	hostile[0].Name = "GET \x1b[31m/\u202egpj.exe\r\n" + strings.Repeat("x", 10_000)
	hostile[1].Resource = res(strings.Repeat("s\x00", 5_000))
	hostile[2].Name = "\xff\xfe"
	hostile[3].Parent = spanID(0x77) // its parent is lost
	hostile[4].Name = "配達 «Größe» 👋"
	hostile[7].StatusText = strings.Repeat("status\n", 1_000)
	hostile[0].Attributes = []attribute.KeyValue{semconv.EnvoyRequestID.String("\x1b]0;title\a" + strings.Repeat("i", 1_000))}

	deep := make([]otlpwire.Span, 15)
	for i := range deep {
		deep[i] = sp(uint64(i+1), uint64(i), local)
		deep[i].End = deep[i].Start + uint64(1e9>>(2*i))
	}
	for _, tt := range []struct {
		name  string
		spans []otlpwire.Span
	}{{"ride.txt", ride()}, {"hostile.txt", hostile}, {"deep.txt", deep}} {
		t.Run(tt.name, func(t *testing.T) {
			text := printAll(t, Build(tt.spans))
			checkText(t, text)
			golden(t, tt.name, text)
		})
	}
}

func TestFormatDuration(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0ns"}, {999, "999ns"}, {1500, "1.5µs"}, {999_949, "999.9µs"}, {12_340 * time.Microsecond, "12.3ms"},
		{999 * time.Millisecond, "999.0ms"}, {1234 * time.Millisecond, "1.23s"}, {100 * time.Second, "1m40s"},
		{59*time.Minute + 59*time.Second, "59m59s"}, {999*time.Hour + time.Minute, "999h1m"},
	} {
		if got := formatDuration(tt.d); got != tt.want || width(got) > durationWidth {
			t.Errorf("formatDuration(%d) = %q, want %q in at most %d", tt.d, got, tt.want, durationWidth)
		}
	}
}

func TestEscape(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{
		{"plain", 5, "plain"}, {"plain", 4, "pla…"}, {"plain", 1, "…"}, {"plain", 0, ""}, {"plain", -3, ""}, {"", 0, ""},
		{"a\nb", 9, `a\nb`}, {"\x1b[0m", 9, `\x1b[0m`}, {"\u202e", 9, `\u202e`}, {"\xff", 9, `\xff`}, {"\u00a0", 9, `\u00a0`},
		{"\U000e0001", 20, `\U000e0001`}, {"é…", 2, "é…"}, {"'", 2, "'"}, {"\x00\x00", 7, `\x00…`},
	} {
		if got := escape(tt.in, tt.limit); got != tt.want {
			t.Errorf("escape(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestPrintError(t *testing.T) {
	if err := Build(ride())[0].Print(failing{}); err == nil || err.Error() != "disk full" {
		t.Errorf("Print = %v, want the writer's error", err)
	}
}
