package exporter

import (
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/meshtrace/meshtrace/internal/otlpwire"
)

// group is a resource and a scope, encoded once for all their spans.
type group struct {
	def      *otlpwire.Group
	size     int  // bytes of resource, scope and their URLs
	interned bool // shared by all spans of this resource and scope
}

// extra bounds what g adds to a request: itself, with tags and lengths.
func (g *group) extra() int { return g.size + 32 }

// maxGroups bounds the interned groups; spans beyond have a group of their own each.
const maxGroups = 1024

// groups interns resource and scope pairs, by the resource's pointer and, where a
// provider makes resources anew, by its value. It is safe for concurrent use.
type groups struct {
	recent [16]atomic.Pointer[groupKey] // one slot a hash of the scope

	mu      sync.RWMutex
	byKey   map[scopeKey]*groupKey
	byValue map[valueKey]*group
}

type scopeKey struct {
	resource *resource.Resource
	scope    instrumentation.Scope
}

// groupKey is immutable.
type groupKey struct {
	scopeKey
	*group
}

type valueKey struct {
	resource attribute.Set
	url      string
	scope    instrumentation.Scope
}

// of returns the group of s.
func (gs *groups) of(s sdktrace.ReadOnlySpan) *group {
	res, scope := s.Resource(), s.InstrumentationScope()
	slot := &gs.recent[slotOf(&scope)%uint(len(gs.recent))]
	if k := slot.Load(); k != nil && k.resource == res && k.scope == scope {
		return k.group
	}
	key := scopeKey{res, scope}
	gs.mu.RLock()
	k := gs.byKey[key]
	gs.mu.RUnlock()
	if k == nil {
		k = gs.intern(key)
	}
	if k.interned {
		slot.Store(k)
	}
	return k.group
}

// slotOf spreads the scopes of one program, whose names are import paths.
func slotOf(s *instrumentation.Scope) uint {
	n := uint(len(s.Name))
	if n > 0 {
		n = n*31 + uint(s.Name[n-1])
	}
	return n + uint(len(s.Version))
}

func (gs *groups) intern(key scopeKey) *groupKey {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if k := gs.byKey[key]; k != nil {
		return k
	}
	if gs.byKey == nil {
		gs.byKey = make(map[scopeKey]*groupKey)
		gs.byValue = make(map[valueKey]*group)
	}
	value := valueKey{*key.resource.Set(), key.resource.SchemaURL(), key.scope}
	g := gs.byValue[value]
	if g == nil {
		g = newGroup(key)
		if len(gs.byValue) < maxGroups {
			g.interned = true
			gs.byValue[value] = g
		}
	}
	k := &groupKey{key, g}
	if g.interned && len(gs.byKey) < maxGroups {
		gs.byKey[key] = k
	}
	return k
}

func newGroup(key scopeKey) *group {
	res := otlpwire.AppendResource(nil, key.resource)
	scope := otlpwire.AppendScope(nil, key.scope)
	url := key.resource.SchemaURL()
	return &group{
		def:  otlpwire.NewGroup(res, url, scope, key.scope.SchemaURL),
		size: len(res) + len(url) + len(scope) + len(key.scope.SchemaURL),
	}
}
