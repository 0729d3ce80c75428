package exporter

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseHeaders(t *testing.T) {
	tests := []struct {
		in   string
		want http.Header
		errs []error
	}{
		{"api-key=abc", http.Header{"Api-Key": {"abc"}}, nil},
		{" api-key = abc , tenant=t1,", http.Header{"Api-Key": {"abc"}, "Tenant": {"t1"}}, nil},
		{"authorization=Basic%20dTpw==", http.Header{"Authorization": {"Basic dTpw=="}}, nil},
		{"authorization=Bearer a b", http.Header{"Authorization": {"Bearer a b"}}, nil},
		{"k=a%2Cb%3D+c", http.Header{"K": {"a,b=+c"}}, nil},
		{"k=", http.Header{"K": {""}}, nil},
		{"", http.Header{}, nil},
		{"a=1,novalue,b=2", http.Header{"A": {"1"}, "B": {"2"}}, []error{errHeaderPair}},
		{"a=1,b=%zz", http.Header{"A": {"1"}}, []error{errHeaderPercent}},
		{"a b=1", http.Header{}, []error{errHeaderName}},
		{"=1", http.Header{}, []error{errHeaderName}},
		{"a=x%0d%0aHost: evil", http.Header{}, []error{errHeaderValue}},
		{"a=%00", http.Header{}, []error{errHeaderValue}},
		{"Content-Type=text/plain,TE=x,grpc-timeout=1S,host=evil", http.Header{}, []error{errHeaderReserved, errHeaderReserved, errHeaderReserved, errHeaderReserved}},
	}
	for _, tt := range tests {
		got, errs := parseHeaders(tt.in)
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("parseHeaders(%q): %s", tt.in, d)
		}
		if len(errs) != len(tt.errs) {
			t.Errorf("parseHeaders(%q): errors %v, want %v", tt.in, errs, tt.errs)
			continue
		}
		for i, err := range errs {
			if !errors.Is(err, tt.errs[i]) {
				t.Errorf("parseHeaders(%q): error %d is %v, want %v", tt.in, i, err, tt.errs[i])
			}
		}
	}
}

func TestParseHeadersBounds(t *testing.T) {
	var many []string
	for i := range maxHeaders + 10 {
		many = append(many, fmt.Sprintf("h%d=x", i))
	}
	if h, errs := parseHeaders(strings.Join(many, ",")); len(h) != maxHeaders || len(errs) != 1 || !errors.Is(errs[0], errHeaderCount) {
		t.Errorf("%d headers and %v, want %d and %v", len(h), errs, maxHeaders, errHeaderCount)
	}
	if h, errs := parseHeaders("a=1,b=" + strings.Repeat("x", maxHeaderBytes)); len(h) != 1 || len(errs) != 1 || !errors.Is(errs[0], errHeaderBytes) {
		t.Errorf("%d headers and %v, want 1 and %v", len(h), errs, errHeaderBytes)
	}
}

// An error must not tell a value: it may be a token.
func TestHeaderErrorsKeepSecrets(t *testing.T) {
	for _, in := range []string{"api-key=s3cret%zz", "s3cret", "bad name=s3cret", "k=s3cret%0a"} {
		_, errs := parseHeaders(in)
		if len(errs) == 0 {
			t.Errorf("parseHeaders(%q): no error", in)
		}
		for _, err := range errs {
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("parseHeaders(%q): the error %q tells the value", in, err)
			}
		}
	}
	if _, err := checkHeaders(map[string]string{"k": "s3cret\n"}); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("checkHeaders: %v, want an error without the value", err)
	}
}

func FuzzParseHeaders(f *testing.F) {
	for _, s := range []string{"a=1,b=2", "authorization=Bearer%20x", "a=%zz", "=,=,=", ",,,", "a=\x00", "é=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		h, _ := parseHeaders(in)
		if len(h) > maxHeaders {
			t.Fatalf("parseHeaders(%q): %d headers", in, len(h))
		}
		for k, v := range h {
			if len(v) != 1 || strings.ContainsAny(k+v[0], "\r\n\x00") {
				t.Fatalf("parseHeaders(%q): %q: %q", in, k, v)
			}
			if checkHeader(k, v[0]) != nil {
				t.Fatalf("parseHeaders(%q) keeps %q: %q", in, k, v)
			}
		}
	})
}
