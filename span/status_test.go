package span

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const (
	server = trace.SpanKindServer
	client = trace.SpanKindClient
)

var (
	errBoom    = errors.New("boom")
	errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
)

func TestHTTPStatus(t *testing.T) {
	unset := Status{}
	code := func(s string) Status { return Status{Code: codes.Error, ErrorType: s} }
	for _, tt := range []struct {
		name string
		m    StatusMap
		kind trace.SpanKind
		code int
		err  error
		want Status
	}{
		{"1xx", Semconv, server, 101, nil, unset},
		{"2xx", Semconv, server, 200, nil, unset},
		{"3xx", Semconv, server, 302, nil, unset},
		{"4xx server", Semconv, server, 404, nil, unset},
		{"5xx server", Semconv, server, 500, nil, code("500")},
		{"unreadable server", Semconv, server, 600, nil, code("600")},
		{"too small server", Semconv, server, 42, nil, code("42")},
		{"nothing server", Semconv, server, 0, nil, unset},
		{"1xx client", Semconv, client, 101, nil, unset},
		{"2xx client", Semconv, client, 204, nil, unset},
		{"3xx client", Semconv, client, 304, nil, unset},
		{"4xx client", Semconv, client, 404, nil, code("404")},
		{"5xx client", Semconv, client, 503, nil, code("503")},
		{"unreadable client", Semconv, client, 700, nil, code("700")},
		{"consumer is a server", Semconv, trace.SpanKindConsumer, 404, nil, unset},
		{"internal is a server", Semconv, trace.SpanKindInternal, 404, nil, unset},
		{"producer is a client", Semconv, trace.SpanKindProducer, 404, nil, code("404")},

		{"transport failure", Semconv, client, 0, errRefused,
			Status{codes.Error, "dial tcp: connection refused", "net.OpError"}},
		{"read failure after 200", Semconv, client, 200, errRefused,
			Status{codes.Error, "dial tcp: connection refused", "net.OpError"}},
		{"caller cancelled", Semconv, client, 0, fmt.Errorf("get: %w", context.Canceled), unset},
		{"caller cancelled after 200", Semconv, client, 200, context.Canceled, unset},
		{"deadline", Semconv, client, 0, fmt.Errorf("get: %w", context.DeadlineExceeded),
			Status{codes.Error, "get: context deadline exceeded", "context.DeadlineExceeded"}},
		{"client left", Semconv, server, 200, context.Canceled, Status{ErrorType: "context.Canceled"}},
		{"SetError under 200", Semconv, server, 200, errBoom, Status{codes.Error, "boom", "errors.errorString"}},
		{"SetError under 404", Semconv, server, 404, errBoom, Status{codes.Error, "boom", "errors.errorString"}},
		{"SetError of a nil pointer", Semconv, server, 200, (*net.OpError)(nil), Status{codes.Error, "<nil>", "net.OpError"}},
		{"SetError under 500", Semconv, server, 500, errBoom, Status{codes.Error, "boom", "500"}},

		{"S-1 server 404", Envoy, server, 404, nil, unset},
		{"S-1 server 503", Envoy, server, 503, nil, code("503")},
		{"S-1 client 404", Envoy, client, 404, nil, Status{Code: codes.Error}}, // E-1: no tag
		{"S-1 client 503", Envoy, client, 503, nil, code("503")},
		{"E-1 600", Envoy, server, 600, nil, Status{Code: codes.Error}},
		{"S-1 too small", Envoy, server, 42, nil, unset},
		{"S-4 server", Envoy, server, 0, nil, Status{ErrorType: "_OTHER"}},
		{"S-4 client", Envoy, client, 0, errRefused, Status{ErrorType: "net.OpError"}},
		{"S-6", Envoy, server, 200, errBoom, unset},
		{"S-6 description", Envoy, server, 500, errBoom, code("500")},

		{"S-7 server 404", AllErrors, server, 404, nil, code("404")},
		{"S-7 client 404", AllErrors, client, 404, nil, code("404")},
		{"S-7 server 302", AllErrors, server, 302, nil, unset},
		{"S-7 server 500", AllErrors, server, 500, nil, code("500")},

		{"own", StatusMap{Server: Errors{HTTP: 503}}, server, 500, nil, unset},
		{"own, other side", StatusMap{Server: Errors{HTTP: 503}}, client, 400, nil, code("400")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.m.HTTP(tt.kind, tt.code, tt.err)); diff != "" {
				t.Errorf("HTTP(%v, %d, %v), -want +got:\n%s", tt.kind, tt.code, tt.err, diff)
			}
		})
	}
}

// TestEnvoyTable is Envoy's table of outcomes, row by row.
func TestEnvoyTable(t *testing.T) {
	for _, tt := range []struct {
		kind       trace.SpanKind
		http, grpc string // by column: 200 404 503 none; 0 5 8 14. E is Error, . is Unset
	}{
		{server, "..E.", "...E"},
		{client, ".EE.", ".EEE"},
	} {
		for i, code := range []int{200, 404, 503, 0} {
			s := Envoy.HTTP(tt.kind, code, nil)
			if got := letter(s); got != tt.http[i] {
				t.Errorf("S-1: HTTP(%v, %d) = %c, want %c", tt.kind, code, got, tt.http[i])
			}
			if got, want := s.ErrorType != "", "..EE"[i] == 'E'; got != want {
				t.Errorf("E-1: HTTP(%v, %d) has the error tag: %v, want %v", tt.kind, code, got, want)
			}
		}
		for i, code := range []uint32{0, 5, 8, 14} {
			s := Envoy.GRPC(tt.kind, code, nil)
			if got := letter(s); got != tt.grpc[i] {
				t.Errorf("S-2: GRPC(%v, %d) = %c, want %c", tt.kind, code, got, tt.grpc[i])
			}
			if got, want := s.ErrorType != "", "..EE"[i] == 'E'; got != want {
				t.Errorf("E-3: GRPC(%v, %d) has the error tag: %v, want %v", tt.kind, code, got, want)
			}
		}
	}
}

func letter(s Status) byte {
	if s.Code == codes.Error {
		return 'E'
	}
	return '.'
}

// TestGRPCStatus walks all codes; the columns are the codes that are errors and,
// for Envoy, those with the tag.
func TestGRPCStatus(t *testing.T) {
	set := func(list ...uint32) (s uint32) {
		for _, c := range list {
			s |= 1 << c
		}
		return s
	}
	faults := set(2, 4, 12, 13, 14, 15)
	all := set(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
	tags := set(2, 4, 8, 12, 13, 14, 15)
	for _, tt := range []struct {
		name         string
		m            StatusMap
		kind         trace.SpanKind
		errors, tags uint32
	}{
		{"Semconv server", Semconv, server, faults, faults},
		{"Semconv client", Semconv, client, all, all},
		{"S-2 server", Envoy, server, faults, tags},
		{"S-2 client", Envoy, client, all, tags},
		{"AllErrors server", AllErrors, server, all, all},
		{"AllErrors client", AllErrors, client, all, all},
		{"own", StatusMap{Server: Errors{GRPC: 1 << 5}}, server, set(5), set(5)},
		{"none", StatusMap{Server: Errors{GRPC: 1}}, server, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, code := range []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 31, 32, 1 << 31, 1<<32 - 1} {
				bit := uint32(1) << min(code, 17)
				var want Status
				if tt.errors&bit != 0 {
					want.Code = codes.Error
				}
				if tt.tags&bit != 0 {
					want.ErrorType = GRPCCode(code)
				}
				if diff := cmp.Diff(want, tt.m.GRPC(tt.kind, code, nil)); diff != "" {
					t.Errorf("GRPC(%v, %d, nil), -want +got:\n%s", tt.kind, code, diff)
				}
			}
		})
	}
}

func TestGRPCStatusError(t *testing.T) {
	for _, tt := range []struct {
		name string
		m    StatusMap
		kind trace.SpanKind
		code uint32
		err  error
		want Status
	}{
		{"describes its code", Semconv, client, 5, errBoom, Status{codes.Error, "boom", "NOT_FOUND"}},
		{"changes no code", Semconv, server, 5, errBoom, Status{}},
		{"cancelled is an error of the client", Semconv, client, 1, context.Canceled, Status{codes.Error, "context canceled", "CANCELLED"}},
		{"counts under OK", Semconv, server, 0, errBoom, Status{codes.Error, "boom", "errors.errorString"}},
		{"cancelled under OK", Semconv, client, 0, context.Canceled, Status{}},
		{"S-6", Envoy, server, 13, errBoom, Status{codes.Error, "", "INTERNAL"}},
		{"S-2", Envoy, server, 0, errBoom, Status{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.m.GRPC(tt.kind, tt.code, tt.err)); diff != "" {
				t.Errorf("GRPC(%v, %d, %v), -want +got:\n%s", tt.kind, tt.code, tt.err, diff)
			}
		})
	}
}

func TestZeroStatusMapIsSemconv(t *testing.T) {
	if (StatusMap{}) != Semconv {
		t.Errorf("StatusMap{} is not Semconv")
	}
}

func TestDescription(t *testing.T) {
	secret := &url.Error{Op: "Get", URL: "https://example.com/p?sig=SECRET#f", Err: errRefused}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"plain", errBoom, "boom"},
		{"query left out", secret, `Get "https://example.com/p": dial tcp: connection refused`},
		{"query left out, wrapped", fmt.Errorf("pay: %w", secret), `pay: Get "https://example.com/p": dial tcp: connection refused`},
		{"no query", &url.Error{Op: "Get", URL: "https://example.com/", Err: errBoom}, `Get "https://example.com/": boom`},
		{"bounded", errors.New(strings.Repeat("é", 400)), strings.Repeat("é", 256)},
		{"made valid", errors.New("a\xffb"), "a\uFFFDb"},
		{"Error panics", panicking{}, "%!v(PANIC=Error method: no text)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := describe(tt.err); got != tt.want {
				t.Errorf("describe(%T) = %q, want %q", tt.err, got, tt.want)
			}
		})
	}
}

type panicking struct{}

func (panicking) Error() string { panic("no text") }

func TestGRPCCode(t *testing.T) {
	for code, want := range map[uint32]string{0: "OK", 1: "CANCELLED", 4: "DEADLINE_EXCEEDED", 16: "UNAUTHENTICATED", 17: "17", 1<<32 - 1: "4294967295"} {
		if got := GRPCCode(code); got != want {
			t.Errorf("GRPCCode(%d) = %q, want %q", code, got, want)
		}
	}
}

func TestApply(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before codes.Code
		apply  Status
		want   sdktrace.Status
		attrs  []attribute.KeyValue
	}{
		{"unset", codes.Unset, Status{}, sdktrace.Status{}, nil},
		{"unset keeps", codes.Error, Status{}, sdktrace.Status{Code: codes.Error, Description: "theirs"}, nil},
		{"error", codes.Unset, Status{codes.Error, "why", "500"}, sdktrace.Status{Code: codes.Error, Description: "why"},
			[]attribute.KeyValue{attribute.String("error.type", "500")}},
		{"Ok of the program stays", codes.Ok, Status{codes.Error, "why", "500"}, sdktrace.Status{Code: codes.Ok},
			[]attribute.KeyValue{attribute.String("error.type", "500")}},
		{"type alone", codes.Unset, Status{ErrorType: "context.Canceled"}, sdktrace.Status{},
			[]attribute.KeyValue{attribute.String("error.type", "context.Canceled")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := tracetest.NewSpanRecorder()
			_, sp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec)).Tracer("").Start(t.Context(), "x")
			if tt.before != codes.Unset {
				sp.SetStatus(tt.before, "theirs")
			}
			tt.apply.Apply(sp)
			sp.End()
			got := rec.Ended()[0]
			if got.Status() != tt.want {
				t.Errorf("status = %+v, want %+v", got.Status(), tt.want)
			}
			if diff := cmp.Diff(tt.attrs, got.Attributes(), cmp.Comparer(func(a, b attribute.KeyValue) bool { return a == b })); diff != "" {
				t.Errorf("attributes, -want +got:\n%s", diff)
			}
		})
	}
}

func TestStatusAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		Semconv.HTTP(server, 200, nil)
		Semconv.HTTP(client, 301, nil)
		Semconv.GRPC(server, 0, nil)
		Semconv.GRPC(client, 5, nil)
	}); n != 0 {
		t.Errorf("statuses allocate %v times, want 0", n)
	}
}
