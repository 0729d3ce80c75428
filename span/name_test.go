package span

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestHTTPName(t *testing.T) {
	long := "/" + strings.Repeat("é", 200)
	for _, tt := range []struct{ method, route, want string }{
		{"GET", "", "GET"},
		{"GET", "/carts/{id}", "GET /carts/{id}"},
		{"", "/", "GET /"},
		{"QUERY", "/search", "QUERY /search"},
		{"PATCH", "", "PATCH"},
		{"CONNECT", "", "CONNECT"},
		{"get", "/carts", "HTTP /carts"},
		{"PROPFIND", "", "HTTP"},
		{"GET", "GET /carts/{id}", "GET /carts/{id}"},
		{"GET", "GET \t /carts", "GET /carts"},
		{"HEAD", "GET example.com/u/{id}", "HEAD /u/{id}"},
		{"GET", "example.com/{$}", "GET /{$}"},
		{"GET", "/files/{path...}", "GET /files/{path...}"},
		{"GET", "/a b/{c}", "GET /a b/{c}"},
		{"GET", "checkout", "GET checkout"},
		{"GET", "GET ", "GET"},
		{"OPTIONS", long, "OPTIONS " + long[:247]},
	} {
		got := HTTPName(tt.method, tt.route)
		if got != tt.want {
			t.Errorf("HTTPName(%q, %q) = %q, want %q", tt.method, tt.route, got, tt.want)
		}
		if len(got) > maxName || !utf8.ValidString(got) {
			t.Errorf("HTTPName(%q, %q) has %d bytes, valid UTF-8 %v", tt.method, tt.route, len(got), utf8.ValidString(got))
		}
	}
}

func TestRPCName(t *testing.T) {
	fits := "/" + strings.Repeat("s", 254) + "/M"
	for _, tt := range []struct{ in, want string }{
		{"/driver.DriverService/FindNearest", "driver.DriverService/FindNearest"},
		{"driver.DriverService/FindNearest", "driver.DriverService/FindNearest"},
		{"/grpc.health.v1.Health/Check", "grpc.health.v1.Health/Check"},
		{"/S/M", "S/M"},
		{fits, fits[1:]},
		{fits + "x", "grpc"},
		{"", "grpc"},
		{"/", "grpc"},
		{"//", "grpc"},
		{"//M", "grpc"},
		{"/S/", "grpc"},
		{"/S", "grpc"},
		{"/a/b/c", "grpc"},
		{"/S /M", "grpc"},
		{"/S/M\x00", "grpc"},
		{"/S/é", "grpc"},
	} {
		if got := RPCName(tt.in); got != tt.want {
			t.Errorf("RPCName(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzHTTPName(f *testing.F) {
	f.Add("GET", "GET example.com/u/{id}")
	f.Add("PROPFIND", "\t/\x00")
	f.Add("", "é")
	f.Fuzz(func(t *testing.T, method, route string) {
		got := HTTPName(method, route)
		if len(got) == 0 || len(got) > maxName {
			t.Errorf("HTTPName(%q, %q) has %d bytes, want 1 to %d", method, route, len(got), maxName)
		}
		if utf8.ValidString(route) && !utf8.ValidString(got) {
			t.Errorf("HTTPName(%q, %q) = %q is not UTF-8", method, route, got)
		}
		// The name shows that the method is known, or does not show it at all.
		shown, rest, _ := strings.Cut(got, " ")
		if shown != HTTPName(method, "") || !strings.HasSuffix(route, rest) && len(got) < maxName-utf8.UTFMax {
			t.Errorf("HTTPName(%q, %q) = %q", method, route, got)
		}
	})
}

func FuzzRPCName(f *testing.F) {
	f.Add("/driver.DriverService/FindNearest")
	f.Add("//")
	f.Add("/a/b/c")
	f.Fuzz(func(t *testing.T, full string) {
		got := RPCName(full)
		if got == "grpc" {
			return
		}
		if strings.Count(got, "/") != 1 || strings.ContainsAny(got, " \x00\n") || len(got) > maxName || got != strings.TrimPrefix(full, "/") {
			t.Errorf("RPCName(%q) = %q", full, got)
		}
		if again := RPCName(got); again != got {
			t.Errorf("RPCName(%q) = %q, and of that %q", full, got, again)
		}
	})
}

func TestNameAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { HTTPName("GET", "GET example.com/carts/{id}") }); n > 1 {
		t.Errorf("HTTPName allocates %v times, want at most 1", n)
	}
	if n := testing.AllocsPerRun(100, func() { HTTPName("GET", "") }); n != 0 {
		t.Errorf("HTTPName without route allocates %v times, want 0", n)
	}
	if n := testing.AllocsPerRun(100, func() { RPCName("/driver.DriverService/FindNearest") }); n != 0 {
		t.Errorf("RPCName allocates %v times, want 0", n)
	}
}
