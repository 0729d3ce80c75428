package otlpreceiver_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshtrace/meshtrace/internal/otlpreceiver"
	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves h until the test ends and returns its address.
func start(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- otlpreceiver.Serve(ctx, l, h) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v after its context ended, want nil", err)
		}
	})
	return l.Addr().String()
}

// client speaks HTTP/1, or HTTP/2 without TLS where h2 is set.
func client(t *testing.T, h2 bool) *http.Client {
	t.Helper()
	var p http.Protocols
	p.SetHTTP1(!h2)
	p.SetUnencryptedHTTP2(h2)
	tr := &http.Transport{Protocols: &p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// request is an ExportTraceServiceRequest of one span with that name.
func request(name string) []byte {
	var b otlpwire.Batch
	body := append([]byte{5<<3 | 2, byte(len(name))}, name...)
	b.Add(otlpwire.NewGroup(nil, "", nil, ""), body, 1<<20)
	return b.AppendTo(nil)
}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func framed(flag byte, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(b))), b...)
}

// accepting keeps the last request and answers with err.
type accepting struct {
	got []byte
	err error
}

func (a *accepting) accept(b []byte) error { a.got = b; return a.err }

func TestHTTP(t *testing.T) {
	export := request("ride")
	bomb := zipped(make([]byte, 1<<20))
	for _, c := range []struct {
		name         string
		method, path string
		header       string // "Name: value" lines
		body         []byte
		accept       error
		status       int
		text         string // in the body
		answer       []byte // the whole body, for 200
		retryAfter   string
	}{
		{name: "export", body: export, status: 200},
		{name: "empty export", body: nil, status: 200},
		{name: "gzip", header: "Content-Encoding: gzip", body: zipped(export), status: 200},
		{name: "charset in the content type", header: "Content-Type: application/x-protobuf; charset=utf-8", body: export, status: 200},
		{name: "partial success", body: export, accept: otlpreceiver.Partial(3, "too old"), status: 200,
			answer: []byte("\x0a\x0b\x08\x03\x12\x07too old")},
		{name: "wrapped answer", body: export, accept: fmt.Errorf("why: %w", otlpreceiver.Partial(3, "too old")), status: 200,
			answer: []byte("\x0a\x0b\x08\x03\x12\x07too old")},
		{name: "store is full", body: export, accept: errors.New("store is full"), status: 503, text: "store is full"},
		{name: "refusal", body: export, accept: &otlpreceiver.Refusal{Status: 429, Message: "slowly", RetryAfter: 1500 * time.Millisecond},
			status: 429, text: "slowly", retryAfter: "2"},
		{name: "refusal without a status", body: export, accept: &otlpreceiver.Refusal{Message: "later"}, status: 503, text: "later"},
		{name: "not protobuf", body: []byte("{}"), status: 400, text: "no ExportTraceServiceRequest: otlpwire: byte 0"},
		{name: "refused while decoding", body: export, accept: &otlpwire.WireError{Offset: 7, Reason: "odd"}, status: 400, text: "byte 7: odd"},
		{name: "not gzip", header: "Content-Encoding: gzip", body: export, status: 400, text: "body cannot be read"},
		{name: "gzip cut off", header: "Content-Encoding: gzip", body: zipped(export)[:20], status: 400, text: "body cannot be read"},
		{name: "too large", body: make([]byte, 1<<16+1), status: 413, text: "more than 65536 bytes"},
		{name: "too large when decompressed", header: "Content-Encoding: gzip", body: bomb, status: 413, text: "more than 65536 bytes"},
		{name: "unknown encoding", header: "Content-Encoding: br", body: export, status: 415, text: "takes gzip"},
		{name: "JSON", header: "Content-Type: application/json", body: []byte("{}"), status: 415, text: "application/x-protobuf"},
		{name: "no content type", header: "Content-Type:", body: export, status: 415, text: "application/x-protobuf"},
		{name: "GET", method: "GET", status: 405, text: "POST"},
		{name: "other path", path: "/", body: export, status: 404, text: "/v1/traces"},
		{name: "gRPC over HTTP/1", path: otlpreceiver.GRPCPath, header: "Content-Type: application/grpc", body: export, status: 404, text: "/v1/traces"},
	} {
		for _, h2 := range []bool{false, true} {
			if h2 && c.name == "gRPC over HTTP/1" {
				continue
			}
			t.Run(fmt.Sprintf("%s/h2=%v", c.name, h2), func(t *testing.T) {
				t.Parallel()
				a := &accepting{err: c.accept}
				addr := start(t, &otlpreceiver.Handler{Accept: a.accept, MaxBytes: 1 << 16})
				req, err := http.NewRequest(or(c.method, "POST"), "http://"+addr+or(c.path, otlpreceiver.HTTPPath), bytes.NewReader(c.body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/x-protobuf")
				if k, v, ok := strings.Cut(c.header, ":"); ok {
					req.Header.Set(k, strings.TrimSpace(v))
				}
				res, err := client(t, h2).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				if res.StatusCode != c.status || !strings.Contains(string(body), c.text) {
					t.Errorf("answer %d %q, want %d with %q", res.StatusCode, body, c.status, c.text)
				}
				if got := res.Header.Get("Retry-After"); got != c.retryAfter {
					t.Errorf("Retry-After = %q, want %q", got, c.retryAfter)
				}
				taken := c.status == 200 || c.accept != nil
				switch {
				case taken && c.name != "empty export" && !bytes.Equal(a.got, export):
					t.Errorf("accepted %x, want %x", a.got, export)
				case !taken && a.got != nil:
					t.Errorf("accepted %x, want nothing", a.got)
				}
				if c.status == 200 {
					if got := res.Header.Get("Content-Type"); got != "application/x-protobuf" || !bytes.Equal(body, c.answer) {
						t.Errorf("answer %q %x, want application/x-protobuf %x", got, body, c.answer)
					}
				}
			})
		}
	}
}

func TestGRPC(t *testing.T) {
	export := request("ride")
	for _, c := range []struct {
		name    string
		path    string
		header  string
		body    []byte
		accept  error
		code    string
		text    string
		answer  []byte
		details string // google.rpc.Status in grpc-status-details-bin
	}{
		{name: "export", body: framed(0, export), code: "0", answer: framed(0, nil)},
		{name: "empty export", body: framed(0, nil), code: "0", answer: framed(0, nil)},
		{name: "with a codec", header: "Content-Type: application/grpc+proto", body: framed(0, export), code: "0", answer: framed(0, nil)},
		{name: "gzip", header: "Grpc-Encoding: gzip", body: framed(1, zipped(export)), code: "0", answer: framed(0, nil)},
		{name: "gzip offered, not used", header: "Grpc-Encoding: gzip", body: framed(0, export), code: "0", answer: framed(0, nil)},
		{name: "partial success", body: framed(0, export), accept: otlpreceiver.Partial(3, "too old"), code: "0",
			answer: framed(0, []byte("\x0a\x0b\x08\x03\x12\x07too old"))},
		{name: "store is full", body: framed(0, export), accept: errors.New("100 % full\n"), code: "14", text: "100 %25 full%0A"},
		{name: "throttled", body: framed(0, export), accept: &otlpreceiver.Refusal{Code: otlpreceiver.ResourceExhausted, Message: "slowly", RetryAfter: 1500 * time.Millisecond},
			code: "8", text: "slowly",
			details: "\x08\x08\x12\x06slowly\x1a\x36\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x0a\x0a\x08\x08\x01\x10\x80\xca\xb5\xee\x01"},
		{name: "not protobuf", body: framed(0, []byte("{}")), code: "3", text: "no ExportTraceServiceRequest: otlpwire: byte 0"},
		{name: "not gzip", header: "Grpc-Encoding: gzip", body: framed(1, export), code: "3", text: "body cannot be read"},
		{name: "compressed, nobody says how", body: framed(1, zipped(export)), code: "12", text: "takes gzip"},
		{name: "unknown encoding", header: "Grpc-Encoding: snappy", body: framed(1, export), code: "12", text: "takes gzip"},
		{name: "too large", body: framed(0, make([]byte, 1<<16+1)), code: "8", text: "more than 65536 bytes"},
		{name: "says it is too large", body: []byte("\x00\xff\xff\xff\xff"), code: "8", text: "more than 65536 bytes"},
		{name: "too large when decompressed", header: "Grpc-Encoding: gzip", body: framed(1, zipped(make([]byte, 1<<20))), code: "8", text: "more than 65536 bytes"},
		{name: "unknown flag", body: framed(2, export), code: "13", text: "flags 0x2"},
		{name: "no message", body: nil, code: "13", text: "without a message"},
		{name: "half a prefix", body: []byte{0, 0}, code: "13", text: "without a message"},
		{name: "cut off", body: framed(0, export)[:9], code: "13", text: "ends after 4"},
		{name: "two messages", body: append(framed(0, export), framed(0, export)...), code: "13", text: "more than one message"},
		{name: "other method", path: "/opentelemetry.proto.collector.logs.v1.LogsService/Export", body: framed(0, export), code: "12", text: "no method"},
		{name: "other codec", header: "Content-Type: application/grpc+json", body: framed(0, export), code: "12", text: "application/grpc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := &accepting{err: c.accept}
			addr := start(t, &otlpreceiver.Handler{Accept: a.accept, MaxBytes: 1 << 16})
			req, err := http.NewRequest("POST", "http://"+addr+or(c.path, otlpreceiver.GRPCPath), bytes.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/grpc")
			req.Header.Set("Te", "trailers")
			if k, v, ok := strings.Cut(c.header, ":"); ok {
				req.Header.Set(k, strings.TrimSpace(v))
			}
			res, err := client(t, true).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			trailer := res.Trailer // of a call that succeeds; else Trailers-Only
			if c.code != "0" {
				trailer = res.Header
			}
			if code, text := trailer.Get("Grpc-Status"), trailer.Get("Grpc-Message"); res.StatusCode != 200 || code != c.code || !strings.Contains(text, c.text) {
				t.Errorf("answer %d, grpc-status %q, grpc-message %q; want 200, %q, %q", res.StatusCode, code, text, c.code, c.text)
			}
			if !bytes.Equal(body, c.answer) || res.Header.Get("Content-Type") != "application/grpc" {
				t.Errorf("answer %q %x, want application/grpc %x", res.Header.Get("Content-Type"), body, c.answer)
			}
			if want := base64.RawStdEncoding.EncodeToString([]byte(c.details)); trailer.Get("Grpc-Status-Details-Bin") != want {
				t.Errorf("grpc-status-details-bin = %q, want %q", trailer.Get("Grpc-Status-Details-Bin"), want)
			}
			if taken := c.code == "0" || c.accept != nil; taken && c.name != "empty export" && !bytes.Equal(a.got, export) || !taken && a.got != nil {
				t.Errorf("accepted %x (want it: %v)", a.got, taken)
			}
		})
	}
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// TestServeStops: a request under way is answered, one that hangs is cut after the grace.
func TestServeStops(t *testing.T) {
	for _, c := range []struct {
		name string
		hang time.Duration
		ok   bool
	}{{"under way", 100 * time.Millisecond, true}, {"hanging", 1500 * time.Millisecond, false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			h := &otlpreceiver.Handler{Accept: func([]byte) error { stop(); time.Sleep(c.hang); return nil }}
			served := make(chan error, 1)
			go func() { served <- otlpreceiver.Serve(ctx, l, h) }()
			began := time.Now()
			res, err := client(t, false).Post("http://"+l.Addr().String()+otlpreceiver.HTTPPath, "application/x-protobuf", bytes.NewReader(request("x")))
			if err == nil {
				res.Body.Close()
			}
			if (err == nil) != c.ok {
				t.Errorf("error of the request = %v, want an answer: %v", err, c.ok)
			}
			if err := <-served; err != nil {
				t.Errorf("Serve = %v, want nil", err)
			}
			if d := time.Since(began); d > 2500*time.Millisecond {
				t.Errorf("Serve took %v to stop", d)
			}
			time.Sleep(max(0, c.hang-time.Since(began))) // Accept returns
		})
	}
}

func TestServeReportsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := otlpreceiver.Serve(context.Background(), l, &otlpreceiver.Handler{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed listener = %v, want net.ErrClosed", err)
	}
}
