package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestDispatch(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "-listen", "127.0.0.1:0")
	for _, tt := range []struct {
		query string
		code  int
		text  string // in the error
	}{
		{"customer=731&session=4711", http.StatusOK, ""},
		{"customer=999", http.StatusNotFound, "There is no customer 999. Known are 123, 392, 567, 731."},
		{"customer=" + strings.Repeat("9", 10), http.StatusBadRequest, "1 to 9 digits"},
		{"customer=1'--", http.StatusBadRequest, "1 to 9 digits"},
		{"customer=" + url.QueryEscape("../route"), http.StatusBadRequest, "1 to 9 digits"},
		{"", http.StatusBadRequest, "1 to 9 digits"},
		{"customer=123&session=%ff%fe", http.StatusBadRequest, "A session is text."},
		{"customer=123&session=" + url.QueryEscape("two words; and, \"quotes\""), http.StatusOK, ""},
		{"customer=123&session=" + strings.Repeat("x", 5000), http.StatusOK, ""},
	} {
		code, r := dispatch(t, p.addr, tt.query, nil)
		if code != tt.code || !strings.Contains(r.Error, tt.text) || (r.Error == "") != (code == http.StatusOK) {
			t.Errorf("GET /dispatch?%.60s = %d, %+v, want %d and %q", tt.query, code, r, tt.code, tt.text)
		}
		if len(r.TraceID) != 32 || len(r.RequestID) != 36 {
			t.Errorf("GET /dispatch?%.60s = %+v, want a trace and a request id", tt.query, r)
		}
		if code == http.StatusOK && (r.Customer == "" || r.Driver == "" || r.ETAMinutes < 1 || r.LatencyMS < 1) {
			t.Errorf("GET /dispatch?%.60s = %+v, want customer, driver, minutes and latency", tt.query, r)
		}
	}
}

// The page offers the customers that there are, loads nothing from elsewhere and
// may not.
func TestPage(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "-listen", "127.0.0.1:0")
	get := func(path string) (*http.Response, string) {
		t.Helper()
		resp, err := http.Get("http://" + p.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	for path, contentType := range map[string]string{"/": "text/html", "/app.js": "text/javascript", "/app.css": "text/css"} {
		resp, body := get(path)
		if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), contentType) {
			t.Errorf("GET %s = %s, %s, want %s", path, resp.Status, resp.Header.Get("Content-Type"), contentType)
		}
		if csp := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; ") {
			t.Errorf("GET %s has the policy %q", path, csp)
		}
		for _, bad := range []string{"http://", "https://", "innerHTML", "style=", "onclick"} {
			if strings.Contains(body, bad) {
				t.Errorf("GET %s has %q", path, bad)
			}
		}
	}
	_, body := get("/")
	var ids []string
	for _, m := range regexp.MustCompile(`data-customer="(\d+)"`).FindAllStringSubmatch(body, -1) {
		ids = append(ids, m[1])
		if code, r := dispatch(t, p.addr, "customer="+m[1], nil); code != http.StatusOK || !strings.Contains(body, ">"+r.Customer+"<") {
			t.Errorf("customer %s of the page = %d, %+v, want the name that the page shows", m[1], code, r)
		}
	}
	if got, want := strings.Join(ids, ", "), "123, 392, 567, 731"; got != want {
		t.Errorf("the page offers %s, want %s", got, want)
	}
	if resp, body := get("/debug/"); resp.StatusCode != http.StatusOK || !strings.Contains(body, "<html") {
		t.Errorf("GET /debug/ = %s, %.100q", resp.Status, body)
	}
	if resp, _ := get("/nowhere"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("GET /nowhere = %s, want 404", resp.Status)
	}
}

// No header that net/http lets through fails a ride.
func TestMalformedHeaders(t *testing.T) {
	t.Parallel()
	const w3c = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	long := strings.Repeat("a", 9000)
	p := start(t, nil, "-listen", "127.0.0.1:0")
	var wg sync.WaitGroup
	// Each ride has one of each kind.
	kinds := [][]string{
		{
			"traceparent: ", "traceparent: 00-zz-11-01", "traceparent: " + long,
			"traceparent: ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			"traceparent: " + w3c + "\r\ntraceparent: " + w3c,
			"traceparent: " + w3c + "\r\ntracestate: a=b,,=,\xff=\xfe\r\ntracestate: " + long,
			"b3: ", "b3: -", "b3: d", "b3: 1-2-3-4-5", "b3: 0",
			"x-b3-traceid: nope\r\nx-b3-spanid: \xe9\r\nx-b3-sampled: maybe\r\nx-b3-flags: 99",
		},
		{
			"x-request-id: ", "x-request-id: \xff\xfe", "x-request-id: " + long, "x-request-id: a b",
			"x-request-id: my-request-id", "x-request-id: one\r\nx-request-id: two",
		},
		{"x-client-trace-id: ", "x-client-trace-id: \xff\xfe", "x-client-trace-id: " + long, "x-envoy-force-trace: \x80"},
		{"baggage: =,;;,\xff=\xfe", "baggage: " + long, "baggage: customer=999,session=%zz,request=%00"},
		{"x-ot-span-context: \xff;\xfe", "uber-trace-id: 1:2:3:4", "grpc-trace-bin: ====", "grpc-timeout: 0n"},
	}
	for i := range kinds[0] {
		var lines []string
		for _, kind := range kinds {
			lines = append(lines, kind[i%len(kind)])
		}
		wg.Go(func() {
			conn, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			fmt.Fprintf(conn, "GET /dispatch?customer=123 HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n\r\n", p.addr, strings.Join(lines, "\r\n"))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Errorf("ride with %.80q: %v", lines, err)
				return
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
				t.Errorf("ride with %.80q = %s, %s", lines, resp.Status, body)
			}
		})
	}
	wg.Wait()
}

// Rides that are wanted together queue in mysql and all arrive. Ctrl-C in the middle
// of them waits for them, then sends every span.
func TestConcurrentRidesAndCtrlC(t *testing.T) {
	t.Parallel()
	const rides = 4
	p := start(t, nil, "-listen", "127.0.0.1:0", "-log", "json")
	var wg sync.WaitGroup
	for i := range rides {
		wg.Go(func() {
			if code, r := dispatch(t, p.addr, "session=s"+strconv.Itoa(i)+"&customer=123", nil); code != http.StatusOK {
				t.Errorf("ride %d = %d, %+v", i, code, r)
			}
		})
	}
	p.out.waitFor(t, `"msg":"a driver is on the way"`)
	code := p.stop(t) // while the others wait for mysql
	wg.Wait()
	if code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errOut.String())
	}

	waited := 0
	for _, line := range p.out.log(t) {
		if line["service"] == "mysql" && line["msg"] == "waiting for other queries" {
			waited++
		}
	}
	if waited < rides/2 { // not all arrive together
		t.Errorf("%d rides waited for mysql, want at least %d", waited, rides/2)
	}
	m := regexp.MustCompile(`(?m)^hotrod: stopped, ended=(\d+) delivered=(\d+) rejected=0 dropped=0 kept=0$`).FindStringSubmatch(p.out.String())
	if m == nil || m[1] != m[2] {
		t.Fatalf("accounting = %q, want one line with everything delivered; in:\n%s", m, p.out.String())
	}
	if n, _ := strconv.Atoi(m[1]); n < rides*38 {
		t.Errorf("%d spans of %d rides", n, rides)
	}
}

func TestStopWithoutRide(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "-listen", "127.0.0.1:0")
	if code := p.stop(t); code != 0 || !strings.Contains(p.out.String(), "hotrod: stopped, ended=0 delivered=0") {
		t.Errorf("exit code %d:\n%s%s", code, p.out.String(), p.errOut.String())
	}
}

func TestExplain(t *testing.T) {
	expired, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for _, tt := range []struct {
		ctx  context.Context
		err  error
		code int
	}{
		{t.Context(), &problem{http.StatusNotFound, "There is no customer 1."}, http.StatusNotFound},
		{t.Context(), fmt.Errorf("asking: %w", &problem{http.StatusBadRequest, "A session is text."}), http.StatusBadRequest},
		{expired, status.Error(codes.DeadlineExceeded, "too late"), http.StatusGatewayTimeout},
		{expired, fmt.Errorf("asking: %w", context.DeadlineExceeded), http.StatusGatewayTimeout},
		{t.Context(), errors.New("127.0.0.1:1 refused"), http.StatusBadGateway},
	} {
		if code, text := explain(tt.ctx, tt.err); code != tt.code || text == "" || strings.Contains(text, "refused") {
			t.Errorf("explain(%v) = %d, %q, want %d and a text for people", tt.err, code, text, tt.code)
		}
	}
}
