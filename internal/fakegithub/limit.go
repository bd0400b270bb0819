// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"net/http"
	"strconv"
	"time"
)

// The windows of the rate limits.
const (
	requestWindow      = time.Hour
	registrationWindow = 5 * time.Minute
)

// budget is what one token has spent of its requests.
type budget struct {
	used  int
	reset time.Time
}

// spend counts a REST request against its token and refuses it when none remains. The caller holds mu.
func (c *call) spend() error {
	limit := c.s.faults.Requests
	if limit == 0 {
		return nil
	}
	now, token := c.s.cfg.Now(), bearer(c.r)
	b := c.s.spent[token]
	if b == nil || !now.Before(b.reset) {
		b = &budget{reset: now.Add(requestWindow)}
		c.s.spent[token] = b
	}
	spentUp := b.used >= limit
	if !spentUp {
		b.used++
	}
	c.budget = b
	c.showBudget(limit)
	if spentUp {
		return &apiError{status: http.StatusForbidden, message: "API rate limit exceeded for this token."}
	}
	return nil
}

// refund takes back what an answer of 304 does not cost. The caller holds mu.
func (c *call) refund() {
	if c.budget != nil {
		c.budget.used--
		c.showBudget(c.s.faults.Requests)
	}
}

func (c *call) showBudget(limit int) {
	for name, value := range map[string]int{"Limit": limit, "Used": c.budget.used, "Remaining": max(0, limit-c.budget.used)} {
		c.header.Set("X-RateLimit-"+name, strconv.Itoa(value))
	}
	c.header.Set("X-RateLimit-Resource", "core")
	c.header.Set("X-RateLimit-Reset", decimal(c.budget.reset.Unix()))
}

// mayRegister applies the secondary limit of registrations in a scope. The caller holds mu.
func (c *call) mayRegister(sc scope) error {
	limit, now := c.s.faults.Registrations, c.s.cfg.Now()
	var recent []registration
	count, oldest := 0, now
	for _, r := range c.s.registrations {
		if now.Sub(r.at) >= registrationWindow {
			continue
		}
		recent = append(recent, r)
		if r.scope == sc {
			count++
			if r.at.Before(oldest) {
				oldest = r.at
			}
		}
	}
	c.s.registrations = recent
	if limit == 0 {
		return nil
	}
	if count >= limit {
		wait := registrationWindow - now.Sub(oldest)
		c.header.Set("Retry-After", decimal(int64((wait+time.Second-1)/time.Second)))
		return &apiError{
			status: http.StatusForbidden, message: "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
			url: "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits",
		}
	}
	c.s.registrations = append(c.s.registrations, registration{sc, now})
	return nil
}

// registration is one that counts against the secondary limit.
type registration struct {
	scope scope
	at    time.Time
}
