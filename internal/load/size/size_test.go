package size

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// built is a program as users ship it, without symbols.
type built struct {
	bytes    int64
	packages []string
}

func build(t *testing.T, name string) built {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, b)
	}
	st, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	deps := exec.Command("go", "list", "-deps", "./"+name)
	deps.Env = cmd.Env
	b, err := deps.Output()
	if err != nil {
		t.Fatalf("%v: %v", deps, err)
	}
	return built{st.Size(), strings.Fields(string(b))}
}

// foreign are the packages outside of the standard library, and those of gRPC and
// protobuf among them.
func (b built) foreign() (all int, grpc []string) {
	for _, p := range b.packages {
		if first, _, _ := strings.Cut(p, "/"); !strings.Contains(first, ".") {
			continue
		}
		all++
		if strings.HasPrefix(p, "google.golang.org/") || strings.HasPrefix(p, "go.opentelemetry.io/proto/") {
			grpc = append(grpc, p)
		}
	}
	return all, grpc
}

// TestLinkedSize: a program with our middleware and exporter links no gRPC and no
// protobuf, and grows by at most half of what it grows by with otelhttp and otlptracehttp.
func TestLinkedSize(t *testing.T) {
	plain, ours, stock := build(t, "plain"), build(t, "meshtrace"), build(t, "stock")
	mb := func(n int64) string { return fmt.Sprintf("%.2f MB", float64(n)/1e6) }
	ourPackages, ourGRPC := ours.foreign()
	stockPackages, stockGRPC := stock.foreign()
	added, theirs := ours.bytes-plain.bytes, stock.bytes-plain.bytes
	t.Logf("net/http server                %s", mb(plain.bytes))
	t.Logf("with meshtrace                 %s, + %s, %d packages beside the standard library, %d of gRPC and protobuf", mb(ours.bytes), mb(added), ourPackages, len(ourGRPC))
	t.Logf("with otelhttp, otlptracehttp   %s, + %s, %d packages beside the standard library, %d of gRPC and protobuf", mb(stock.bytes), mb(theirs), stockPackages, len(stockGRPC))
	t.Logf("ratio of what is added         %.2f", float64(added)/float64(theirs))
	if len(ourGRPC) != 0 {
		t.Errorf("meshtrace links %v", ourGRPC)
	}
	if len(stockGRPC) == 0 {
		t.Error("otlptracehttp links no gRPC and no protobuf: does this test still see what is linked?")
	}
	if 2*added > theirs {
		t.Errorf("meshtrace adds %s, more than half of the %s that otelhttp and otlptracehttp add", mb(added), mb(theirs))
	}
}
