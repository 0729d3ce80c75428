package span

import "testing"

func TestIstioOperation(t *testing.T) {
	for _, tt := range []struct {
		host string
		port int
		path string
		want string
	}{
		{"reviews.default.svc.cluster.local", 9080, "", "reviews.default.svc.cluster.local:9080/*"},
		{"reviews-vs", 80, "/api/*", "reviews-vs:80/api/*"},
		{"2001:4860:0:2001::68", 3000, "", "[2001:4860:0:2001::68]:3000/*"},
	} {
		if got := IstioOperation(tt.host, tt.port, tt.path); got != tt.want {
			t.Errorf("IstioOperation(%q, %d, %q) = %q, want %q", tt.host, tt.port, tt.path, got, tt.want)
		}
	}
}
