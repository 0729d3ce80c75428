package span_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/meshtrace/meshtrace/requestid"
	"github.com/meshtrace/meshtrace/sampler"
	"github.com/meshtrace/meshtrace/span"
)

// TestSampledLogs is RID-17: the number of the id decides, for all lines of a request.
func TestSampledLogs(t *testing.T) {
	var out bytes.Buffer
	base := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})
	share := sampler.Of(1, sampler.Million)
	logger := slog.New(span.LogHandler(span.SampledLogs(base, slog.LevelInfo, share.Hit))).With("a", 1).WithGroup("g")
	for _, tt := range []struct {
		id          string
		debug, info bool
	}{
		{"", true, true}, // outside of any request
		{"000f4240-6f55-44ba-ad80-413f09f48a28", true, true}, // 1,000,000: the whole number, not its last four digits
		{"00002710-6f55-44ba-ad80-413f09f48a28", false, true},
		{"00000000-6f55-44ba-ad80-413f09f48a28", true, true},
		{"00000001-6f55-44ba-ad80-413f09f48a28", false, true},
		{"00000001-6f55-94ba-ad80-413f09f48a28", false, true}, // whatever the digit
	} {
		ctx := context.Background()
		if tt.id != "" {
			ctx = requestid.NewContext(ctx, requestid.ID(tt.id))
		}
		for range 3 {
			out.Reset()
			logger.DebugContext(ctx, "detail")
			if got := out.Len() > 0; got != tt.debug {
				t.Errorf("%q: a Debug line passes: %v, want %v", tt.id, got, tt.debug)
			}
			out.Reset()
			logger.InfoContext(ctx, "event")
			if got := out.Len() > 0; got != tt.info {
				t.Errorf("%q: an Info line passes: %v, want %v", tt.id, got, tt.info)
			}
		}
	}
}

// TestSampledLogsForeign: an id without a number is sampled by the whole of it, the same
// each time, and near the share.
func TestSampledLogsForeign(t *testing.T) {
	h := span.SampledLogs(slog.NewTextHandler(&bytes.Buffer{}, &slog.HandlerOptions{Level: slog.LevelDebug}), slog.LevelInfo, sampler.Percent(10).Hit)
	passed := 0
	for i := range 10_000 {
		ctx := requestid.NewContext(t.Context(), requestid.ID(fmt.Sprintf("my-id-%d", i)))
		first := h.Enabled(ctx, slog.LevelDebug)
		if h.Enabled(ctx, slog.LevelDebug) != first {
			t.Fatalf("my-id-%d passes once and once not", i)
		}
		if first {
			passed++
		}
	}
	if passed < 800 || passed > 1200 {
		t.Errorf("%d of 10,000 ids pass, want about a tenth", passed)
	}
}

func TestSampledLogsLevel(t *testing.T) {
	h := span.SampledLogs(slog.NewTextHandler(&bytes.Buffer{}, nil), slog.LevelInfo, func(uint32) bool { return true })
	if h.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("a Debug line passes though the handler below has none")
	}
}

func TestSampledLogsNil(t *testing.T) {
	for _, f := range []func(){
		func() { span.SampledLogs(nil, 0, sampler.Percent(1).Hit) },
		func() { span.SampledLogs(slog.DiscardHandler, 0, nil) },
	} {
		func() {
			defer func() {
				if v := recover(); !strings.Contains(fmt.Sprint(v), "give the handler") {
					t.Errorf("panic = %v, want one that says what to give", v)
				}
			}()
			f()
		}()
	}
}

func TestSampledLogsAllocations(t *testing.T) {
	logger := slog.New(span.LogHandler(span.SampledLogs(slog.NewTextHandler(&bytes.Buffer{}, &slog.HandlerOptions{Level: slog.LevelDebug}), slog.LevelInfo, func(uint32) bool { return false })))
	for _, id := range []requestid.ID{"00000001-6f55-44ba-ad80-413f09f48a28", "foreign"} {
		ctx := requestid.NewContext(t.Context(), id)
		if n := testing.AllocsPerRun(100, func() { logger.DebugContext(ctx, "detail") }); n != 0 {
			t.Errorf("%q: a line that does not pass costs %v allocations, want none", id, n)
		}
	}
}
