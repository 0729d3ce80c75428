package middleware

import (
	"context"
	"log/slog"
	"math"

	"github.com/meshtrace/meshtrace/internal/otelenv"
)

// logLevel applies OTEL_LOG_LEVEL to meshtrace's own lines. Unset, the logger decides.
func logLevel(env *otelenv.Reader, own, export *slog.Logger) (_, _ *slog.Logger) {
	v, ok := env.Enum("OTEL_LOG_LEVEL", "none", "error", "warn", "info", "debug")
	if !ok {
		return own, export
	}
	level := map[string]slog.Level{
		"none": math.MaxInt, "error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug,
	}[v]
	return slog.New(leveled{own.Handler(), level}), slog.New(leveled{export.Handler(), level})
}

// leveled is a handler whose level the deployment chose: it wins over the handler's own.
type leveled struct {
	slog.Handler
	level slog.Level
}

func (h leveled) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(attrs), h.level}
}

func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.Handler.WithGroup(name), h.level}
}
