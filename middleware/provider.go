package middleware

import (
	"context"
	"os"
	"strings"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/exporter"
	"github.com/meshtrace/meshtrace/internal/callspan"
)

// ownProvider is a TracerProvider that Setup made: the SDK's or a *provider.
type ownProvider interface {
	trace.TracerProvider
	ForceFlush(context.Context) error
	Shutdown(context.Context) error
}

// provider is the SDK's TracerProvider that Setup made, and knows of the spans that do not
// come from it: who adds a processor to it hears of all.
type provider struct {
	*sdktrace.TracerProvider
	calls     *callspan.Source
	exporters []*exporter.Exporter // among the processors
}

// RegisterSpanProcessor adds a processor, as the SDK's method of that name does.
func (p *provider) RegisterSpanProcessor(sp sdktrace.SpanProcessor) {
	p.TracerProvider.RegisterSpanProcessor(sp)
	p.calls.Register(sp)
}

// UnregisterSpanProcessor removes a processor and shuts it down, as the SDK's method of
// that name does. One that it does not know is kept from the SDK, whose versions 1.44 and
// 1.45 would remove their first one instead.
func (p *provider) UnregisterSpanProcessor(sp sdktrace.SpanProcessor) {
	if p.calls.Unregister(sp) {
		p.TracerProvider.UnregisterSpanProcessor(sp)
	}
}

// Shutdown shuts the processors down, which hear of no span from then on. Only exporters
// do, of those of calls, and count them.
func (p *provider) Shutdown(ctx context.Context) error {
	err := p.TracerProvider.Shutdown(ctx)
	late := make([]sdktrace.SpanProcessor, len(p.exporters))
	for i, e := range p.exporters {
		late[i] = e
	}
	p.calls.Close(late)
	return err
}

// sdkMade tells whether a TracerProvider is the SDK's, ours included.
func sdkMade(tp any) bool {
	switch tp.(type) {
	case *sdktrace.TracerProvider, *provider:
		return true
	}
	return false
}

// sdkObserved tells whether the SDK measures its spans, as its variables ask it to in the
// process's environment: spans that are not its own would be missing in the result.
func sdkObserved() bool {
	for _, name := range []string{"OTEL_GO_X_OBSERVABILITY", "OTEL_GO_X_SELF_OBSERVABILITY"} {
		if strings.EqualFold(os.Getenv(name), "true") {
			return true
		}
	}
	return false
}
