package exporter

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func testLink(p Protocol) *link {
	s := &settings{protocol: p, endpointFrom: fromConfig, timeout: time.Second}
	s.target = endpoint{host: "collector"}.resolve(p, true, false)
	return &link{settings: s, target: s.target, speaks: p}
}

// Any answer makes an outcome that the accounts can take and a log can show.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "application/grpc", "0", "", "", "", []byte{0, 0, 0, 0, 0})
	f.Add(200, "application/grpc", "8", "slow%20down", "CAgSBHNsb3caKgoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbw==", "", []byte(nil))
	f.Add(503, "application/x-protobuf", "", "", "", "120", []byte("\x08\x0e\x12\x03bad"))
	f.Add(200, "application/x-protobuf", "", "", "", "", []byte("\x0a\x05\x08\x03\x12\x01x"))
	f.Add(404, "text/plain", "", "", "", "", []byte("404 page not found\n"))
	f.Add(400, "text/plain", "", "", "", "", []byte("Client sent an HTTP request to an HTTPS server.\n"))
	f.Add(200, "application/json", "", "", "", "", []byte(`{"partialSuccess":{"rejectedSpans":"3","errorMessage":"x"}}`))
	f.Add(503, "application/json", "", "", "", "5", []byte(`{"code":14,"message":"busy"}`))
	f.Add(200, "text/html", "99", "%1b[31m", "!!", "-1", []byte("\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, status int, kind, code, message, details, retry string, body []byte) {
		if status < 100 || status > 999 {
			return
		}
		h := http.Header{}
		for k, v := range map[string]string{"Content-Type": kind, "Grpc-Status": code, "Grpc-Message": message, "Grpc-Status-Details-Bin": details, "Retry-After": retry} {
			if v != "" {
				h[k] = []string{v}
			}
		}
		resp := &http.Response{StatusCode: status, Header: h, Trailer: http.Header{}, Request: &http.Request{URL: &url.URL{}}}
		check := func(rejected int, err error) {
			t.Helper()
			if rejected < 0 {
				t.Fatalf("%d rejected", rejected)
			}
			var se *SendError
			if err == nil {
				return
			}
			if !errors.As(err, &se) {
				t.Fatalf("%T: %v", err, err)
			}
			if se.After < 0 || se.After > longestAsked || se.After > 0 && !se.Retry {
				t.Fatalf("After %v, Retry %v", se.After, se.Retry)
			}
			if line := se.line(); len(line) > maxLine || strings.ContainsAny(line, "\n\r\x1b\x00") {
				t.Fatalf("line of %d bytes: %q", len(line), line)
			}
			if se.Code == "" && se.kind == "" {
				t.Fatalf("neither code nor kind: %+v", se)
			}
		}
		check((&grpcSender{testLink(GRPC)}).read(t.Context(), resp, body, nil))
		check((&httpSender{link: testLink(HTTPProtobuf)}).read(resp, body, nil))
		check((&httpSender{link: testLink(HTTPJSON)}).read(resp, body, nil))
	})
}
