package middleware_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/meshtrace/meshtrace/middleware"
	"github.com/meshtrace/meshtrace/requestid"
)

// FuzzRequest drives a whole request with arbitrary headers, status and ends
// through handler and transport: nothing of ours panics, every started span ends
// once, and what goes out is well formed.
func FuzzRequest(f *testing.F) {
	f.Add("traceparent", traceparent, "x-request-id", plainID, uint16(200), byte(0))
	f.Add("b3", "0", "tracestate", "a=1,,b", uint16(500), byte(1))
	f.Add("baggage", "a=%0d%0a", "x-request-id", "\x00\xff", uint16(99), byte(2))
	f.Add("x-b3-traceid", "zz", "x-client-trace-id", strings.Repeat("c", 300), uint16(101), byte(3))
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, code uint16, end byte) {
		tracing, rec := setup(t, middleware.Config{})
		out := tracing.Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			for _, name := range []string{"X-Request-Id", "Traceparent", "Tracestate", "Baggage"} {
				for _, v := range r.Header[name] {
					if strings.ContainsAny(v, "\r\n\x00") {
						t.Errorf("%s goes out as %q", name, v)
					}
				}
			}
			if id := r.Header.Get("X-Request-Id"); id != "" {
				if _, err := requestid.Parse(id); err != nil {
					t.Errorf("x-request-id goes out as %q: %v", id, err)
				}
			}
			if end&4 != 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return &http.Response{StatusCode: int(code), Body: io.NopCloser(strings.NewReader("x")), ContentLength: 1}, nil
		}))
		h := tracing.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			req, _ := http.NewRequestWithContext(r.Context(), "GET", "http://shop.example/?"+v1, nil)
			if req != nil {
				if resp, err := out.RoundTrip(req); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
			switch end & 3 {
			case 1:
				panic(v2)
			case 2:
				panic(http.ErrAbortHandler)
			case 3:
				w.WriteHeader(max(int(code), 100) % 1000)
			}
		}))
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Add(k1, v1)
		r.Header.Add(k2, v2)
		func() {
			defer func() {
				if v := recover(); v != nil && v != any(v2) && v != any(http.ErrAbortHandler) && !strings.Contains(fmt.Sprint(v), "invalid WriteHeader code") {
					panic(v)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), r)
		}()
		if s, e := len(rec.Started()), len(rec.Ended()); s != e {
			t.Errorf("%d spans started, %d ended", s, e)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
