package middleware

import (
	"net/url"
	"testing"
)

func TestRedactQuery(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "",
		"a=b&c":                       "a=b&c",
		"sig=SECRET":                  "sig=REDACTED",
		"a=1&Signature=x&b=2":         "a=1&Signature=REDACTED&b=2",
		"AWSAccessKeyId=AK&x=y":       "AWSAccessKeyId=REDACTED&x=y",
		"X-Amz-Credential=a%2Fb":      "X-Amz-Credential=REDACTED",
		"X-Goog-Signature=1":          "X-Goog-Signature=REDACTED",
		"%73ig=SECRET":                "%73ig=REDACTED", // the same name, escaped
		"sig":                         "sig",
		"SIG=shown":                   "SIG=shown", // names are case-sensitive
		"%zz=x":                       "%zz=REDACTED",
		"signal=ok&design=ok":         "signal=ok&design=ok",
		"X-Amz-Security-Token=t=t&&=": "X-Amz-Security-Token=REDACTED&&=",
	} {
		if got := defaultSecrets.redact(in); got != want {
			t.Errorf("redactQuery(%q) = %q, want %q", in, got, want)
		}
	}
	for name := range defaultSecrets.names {
		if !mayHoldSecret(name) {
			t.Errorf("mayHoldSecret(%q) = false: its value would stay", name)
		}
	}
}

func TestFullURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://a.example/x?y=z":             "http://a.example/x?y=z",
		"https://user:pass@a.example/?sig=1": "https://REDACTED:REDACTED@a.example/?sig=REDACTED",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := defaultSecrets.url(u); got != want {
			t.Errorf("fullURL(%q) = %q, want %q", in, got, want)
		}
		if u.String() != in {
			t.Errorf("fullURL(%q) changed its argument to %q", in, u)
		}
	}
}

func FuzzRedactQuery(f *testing.F) {
	f.Add("a=b&sig=SECRET")
	f.Fuzz(func(t *testing.T, q string) {
		out := defaultSecrets.redact(q)
		values, err := url.ParseQuery(out)
		if err != nil {
			return
		}
		for name := range defaultSecrets.names {
			for _, v := range values[name] {
				if v != redacted && v != "" {
					t.Errorf("redactQuery(%q) = %q shows %s=%q", q, out, name, v)
				}
			}
		}
	})
}

func TestSplitHost(t *testing.T) {
	for in, want := range map[string]struct {
		host string
		port int
	}{
		"a.example":      {"a.example", 0},
		"a.example:8080": {"a.example", 8080},
		"[::1]:80":       {"::1", 80},
		"[::1]":          {"::1", 0},
		"::1":            {"::1", 0},
		"a:b":            {"a", 0},
		"a:99999":        {"a", 0},
		"":               {"", 0},
	} {
		if host, port := splitHost(in); host != want.host || port != want.port {
			t.Errorf("splitHost(%q) = %q, %d, want %q, %d", in, host, port, want.host, want.port)
		}
	}
}
