package tracingtest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/goleak"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/middleware/tracingtest"
	"github.com/meshtrace/meshtrace/span"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// failing stands for the test of a user, and notes how it fails.
type failing struct {
	testing.TB
	text string
}

func (f *failing) Helper() {}
func (f *failing) Errorf(format string, args ...any) {
	f.text += fmt.Sprintf(format, args...)
}
func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

// failure runs f and returns how it fails.
func failure(t *testing.T, f func(testing.TB)) string {
	t.Helper()
	tb := &failing{TB: t}
	var wg sync.WaitGroup
	wg.Go(func() { f(tb) })
	wg.Wait()
	return tb.text
}

// work makes a small tree of spans: two jobs, the second with an error.
func work(tracing *middleware.Tracing) {
	for i := range 2 {
		ctx, call := tracing.StartServer(context.Background(), middleware.Incoming{Name: fmt.Sprintf("job %d", i)})
		_, a := span.Start(ctx, "b", trace.WithSpanKind(trace.SpanKindProducer))
		_, b := span.Start(ctx, "a")
		b.End()
		if i == 1 {
			a.SetStatus(codes.Error, "no type")
		}
		a.End()
		var err error
		if i == 1 {
			err = context.DeadlineExceeded
		}
		call.End(middleware.Outcome{Err: err})
	}
}

const workTree = `SERVER job 0
  PRODUCER b
  INTERNAL a
SERVER job 1 !context.DeadlineExceeded
  PRODUCER b !
  INTERNAL a
`

func TestTree(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	if got := spans.Tree(); got != "" {
		t.Errorf("Tree() of no spans = %q, want empty", got)
	}
	spans.Want(t, "")
	work(tracing)
	if got := spans.Tree(); got != workTree {
		t.Errorf("Tree() =\n%s\nwant\n%s", got, workTree)
	}
	spans.Want(t, workTree)
	// The order of siblings and the indentation of the whole do not count.
	spans.Want(t, `

			SERVER job 1 !context.DeadlineExceeded
				INTERNAL a
				PRODUCER b !
			SERVER job 0
			  PRODUCER b
			  INTERNAL a
	`)
	if got := len(spans.All()); got != 6 {
		t.Errorf("All() has %d spans, want 6", got)
	}
	spans.Reset()
	if got := spans.Tree() + fmt.Sprint(len(spans.All())); got != "0" {
		t.Errorf("after Reset there is %q", got)
	}
}

// TestWantFails: a difference of any kind is told, and shown line by line.
func TestWantFails(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	work(tracing)
	for _, tt := range []struct {
		name, want, text string
	}{
		{"other name", strings.Replace(workTree, "PRODUCER b\n", "PRODUCER c\n", 1),
			"the spans differ, -want +got:\n  SERVER job 0\n    INTERNAL a\n-   PRODUCER c\n+   PRODUCER b\n  SERVER job 1"},
		{"other kind", strings.Replace(workTree, "SERVER job 0", "CONSUMER job 0", 1), "- CONSUMER job 0"},
		{"other error", strings.Replace(workTree, "!context.DeadlineExceeded", "!500", 1), "- SERVER job 1 !500"},
		{"no error", strings.Replace(workTree, " !context.DeadlineExceeded", "", 1), "+ SERVER job 1 !context.DeadlineExceeded"},
		{"other parent", strings.Replace(workTree, "  INTERNAL a\n", "    INTERNAL a\n", 1), "-     INTERNAL a"},
		{"one less", strings.Replace(workTree, "  INTERNAL a\n", "", 1), "+   INTERNAL a"},
		{"none", "", "+ SERVER job 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := failure(t, func(tb testing.TB) { spans.Want(tb, tt.want) })
			if !strings.Contains(got, tt.text) {
				t.Errorf("failure =\n%s\nwant in it\n%s", got, tt.text)
			}
		})
	}
}

// TestWaiting runs in a bubble, where 5 seconds take no time.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracing, spans := tracingtest.New(t, middleware.Config{})
		go func() {
			time.Sleep(4 * time.Second)
			work(tracing)
		}()
		start := time.Now()
		if got := spans.Named(t, "job 1"); got.SpanKind != trace.SpanKindServer || time.Since(start) != 4*time.Second {
			t.Errorf("Named = %v after %v, want a server span after 4 s", got.SpanKind, time.Since(start))
		}
		spans.Wait(t, 6)
		spans.Want(t, workTree)

		start = time.Now()
		for _, tt := range []struct {
			name string
			f    func(testing.TB)
			text string
		}{
			{"Wait", func(tb testing.TB) { spans.Wait(tb, 7) }, "6 spans ended within 5s, want 7:\nSERVER job 0\n"},
			{"Named", func(tb testing.TB) { spans.Named(tb, "x") }, "no span named \"x\" ended within 5s; there are:\nSERVER job 0\n"},
			{"Named, several", func(tb testing.TB) { spans.Named(tb, "a") }, "several spans are named \"a\", want one:\nSERVER job 0\n"},
			{"Want, too many", func(tb testing.TB) { spans.Want(tb, workTree+"CLIENT x\n") }, "- CLIENT x\n"},
		} {
			if got := failure(t, tt.f); !strings.Contains(got, tt.text) {
				t.Errorf("%s fails with\n%s\nwant in it\n%s", tt.name, got, tt.text)
			}
		}
		if got := time.Since(start); got != 15*time.Second {
			t.Errorf("failing took %v, want 15 s: three waits", got)
		}
	})
}

// TestOverHTTP is what a user's test looks like, with the server's span ending late.
func TestOverHTTP(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /carts/{id}", func(w http.ResponseWriter, r *http.Request) {
		_, sp := span.Start(r.Context(), "price")
		sp.End()
		w.WriteHeader(http.StatusInternalServerError)
		w.(http.Flusher).Flush()
		time.Sleep(20 * time.Millisecond)
	})
	srv := httptest.NewServer(tracing.Handler(mux))
	defer srv.Close()
	client := &http.Client{Transport: tracing.Transport(srv.Client().Transport)}
	resp, err := client.Get(srv.URL + "/carts/7")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	spans.Want(t, `
		CLIENT GET !500
		  SERVER GET /carts/{id} !500
		    INTERNAL price
	`)
	if got := spans.Named(t, "GET /carts/{id}").Attributes; !contains(got, attribute.Int("http.response.status_code", 500)) {
		t.Errorf("attributes = %v, want the status code", got)
	}
}

func contains(list []attribute.KeyValue, kv attribute.KeyValue) bool {
	for _, a := range list {
		if a == kv {
			return true
		}
	}
	return false
}

// TestEnvironment: the process's variables do not count, a Getenv's do, and no
// exporter is made in either case.
func TestEnvironment(t *testing.T) {
	t.Setenv("OTEL_SERVICE_NAME", "from the process")
	for want, getenv := range map[string]func(string) string{
		"mine": nil,
		"from Getenv": func(name string) string {
			return map[string]string{"OTEL_SERVICE_NAME": "from Getenv", "OTEL_TRACES_EXPORTER": "otlp"}[name]
		},
	} {
		tracing, spans := tracingtest.New(t, middleware.Config{Service: "mine", Getenv: getenv})
		_, call := tracing.StartServer(t.Context(), middleware.Incoming{Name: "x"})
		call.End(middleware.Outcome{})
		if got, _ := spans.Named(t, "x").Resource.Set().Value("service.name"); got.AsString() != want {
			t.Errorf("service.name = %q, want %q", got.AsString(), want)
		}
		if got := tracing.Stats(); got.Ended != 0 {
			t.Errorf("an exporter had %d spans, want no exporter", got.Ended)
		}
	}
}

func TestSharedProvider(t *testing.T) {
	provider := sdktrace.NewTracerProvider()
	defer provider.Shutdown(context.Background())
	t.Run("sub", func(t *testing.T) {
		front, spans := tracingtest.New(t, middleware.Config{TracerProvider: provider})
		back, _ := tracingtest.New(t, middleware.Config{TracerProvider: provider})
		ctx, call := front.StartServer(t.Context(), middleware.Incoming{Name: "front"})
		_, inner := back.StartClient(ctx, middleware.Outgoing{Name: "back"})
		inner.End(middleware.Outcome{})
		call.End(middleware.Outcome{})
		spans.Want(t, "SERVER front\n  CLIENT back")
	})
}

// TestSharedTracing: a Tracing over the provider of another one, whose spans are in both.
func TestSharedTracing(t *testing.T) {
	front, spans := tracingtest.New(t, middleware.Config{})
	t.Run("sub", func(t *testing.T) {
		back, both := tracingtest.New(t, middleware.Config{TracerProvider: front.TracerProvider()})
		ctx, call := front.StartServer(t.Context(), middleware.Incoming{Name: "front"})
		_, inner := back.StartClient(ctx, middleware.Outgoing{Name: "back"})
		inner.End(middleware.Outcome{})
		call.End(middleware.Outcome{})
		both.Want(t, "SERVER front\n  CLIENT back")
		spans.Want(t, "SERVER front\n  CLIENT back")
	})
	// The provider and the first list outlive the second one.
	_, call := front.StartServer(t.Context(), middleware.Incoming{Name: "later"})
	call.End(middleware.Outcome{})
	spans.Want(t, "SERVER front\n  CLIENT back\nSERVER later")
}

func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		cfg        middleware.Config
	}{
		{"config", "HealthChecks", middleware.Config{HealthChecks: []string{"x"}}},
		{"provider", "its spans cannot be seen", middleware.Config{TracerProvider: noop.NewTracerProvider()}},
	} {
		if got := failure(t, func(tb testing.TB) { tracingtest.New(tb, tt.cfg) }); !strings.Contains(got, tt.text) {
			t.Errorf("%s: New fails with %q, want %q in it", tt.name, got, tt.text)
		}
	}
}

func TestConcurrent(t *testing.T) {
	tracing, spans := tracingtest.New(t, middleware.Config{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				_, call := tracing.StartServer(t.Context(), middleware.Incoming{Name: "x"})
				call.End(middleware.Outcome{Err: errors.New("x")})
				spans.Tree()
			}
		})
	}
	spans.Wait(t, 400)
	wg.Wait()
}
