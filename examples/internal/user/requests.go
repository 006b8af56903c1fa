package user

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// User is a user as GET shows it. What other services' events tell of it is in Premium and LastLogin.
type User struct {
	UserID      string         `json:"userId"`
	Email       string         `json:"email"`
	FirstName   string         `json:"firstName"`
	LastName    string         `json:"lastName"`
	Premium     bool           `json:"premium"`
	LastLogin   time.Time      `json:"lastLogin,omitzero"`
	Preferences map[string]any `json:"preferences"`
	ProfileData map[string]any `json:"profileData"`
}

type newUser struct {
	Email     string `json:"email"`
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
}

// Check implements [service.Body].
func (n newUser) Check(p *service.Problems) {
	p.Email("email", n.Email)
	p.Text("firstName", n.FirstName)
	p.Text("lastName", n.LastName)
}

func (s *Service) create(r *http.Request, in newUser) (User, error) {
	unlock, err := s.reserve(r.Context(), in.Email)
	if err != nil {
		return User{}, err
	}
	defer unlock()
	u := User{UserID: service.NewID(), Email: in.Email, FirstName: in.FirstName, LastName: in.LastName}
	err = s.publisher.Publish(r.Context(), eventbus.UserCreated.New(eventbus.UserCreatedPayload{
		UserID: u.UserID, Email: u.Email, FirstName: u.FirstName, LastName: u.LastName,
	}))
	if err != nil {
		return User{}, err
	}
	s.users.Put(u.UserID, u)
	s.userIDs.Put(strings.ToLower(u.Email), u.UserID)
	return s.view(u), nil
}

// reserve locks an e-mail address that no user has.
func (s *Service) reserve(ctx context.Context, email string) (unlock func(), err error) {
	key := strings.ToLower(email)
	if unlock, err = s.locks.Lock(ctx, key); err != nil {
		return nil, err
	}
	if _, taken := s.userIDs.Get(key); taken {
		unlock()
		return nil, service.Errorf(http.StatusConflict, "another user has this e-mail address")
	}
	return unlock, nil
}

func (s *Service) get(r *http.Request) (User, error) {
	u, ok := s.users.Get(r.PathValue("userId"))
	if !ok {
		return User{}, noUser(r)
	}
	return s.view(u), nil
}

// view adds what other services' events told.
func (s *Service) view(u User) User {
	a, _ := s.activities.Get(u.UserID)
	u.Premium, u.LastLogin = a.premium, a.lastLogin
	return u
}

func noUser(r *http.Request) error {
	return service.Errorf(http.StatusNotFound, "no user %s", r.PathValue("userId"))
}

// change publishes what follows from the user's present state and makes the changed one its state.
func (s *Service) change(r *http.Request, change func(*User) eventbus.AnyEvent) (User, error) {
	unlock, err := s.locks.Lock(r.Context(), r.PathValue("userId"))
	if err != nil {
		return User{}, err
	}
	defer unlock()
	u, ok := s.users.Get(r.PathValue("userId"))
	if !ok {
		return User{}, noUser(r)
	}
	if err := s.publisher.Publish(r.Context(), change(&u)); err != nil {
		return User{}, err
	}
	s.users.Put(u.UserID, u)
	return s.view(u), nil
}

type preferences struct {
	Preferences map[string]any `json:"preferences"`
}

// Check implements [service.Body].
func (b preferences) Check(p *service.Problems) {
	p.Require(b.Preferences != nil, "preferences", `an object such as {"currency": "EUR"}`)
}

func (s *Service) setPreferences(r *http.Request, in preferences) (User, error) {
	return s.change(r, func(u *User) eventbus.AnyEvent {
		u.Preferences = in.Preferences
		return eventbus.UserPreferencesUpdated.New(eventbus.UserPreferencesUpdatedPayload{UserID: u.UserID, Preferences: u.Preferences})
	})
}

type profile struct {
	ProfileData map[string]any `json:"profileData"`
}

// Check implements [service.Body].
func (b profile) Check(p *service.Problems) {
	p.Require(b.ProfileData != nil, "profileData", `an object such as {"interests": ["beach", "culture"]}`)
}

func (s *Service) setProfile(r *http.Request, in profile) (User, error) {
	return s.change(r, func(u *User) eventbus.AnyEvent {
		u.ProfileData = in.ProfileData
		return eventbus.UserProfileUpdated.New(eventbus.UserProfileUpdatedPayload{UserID: u.UserID, ProfileData: u.ProfileData})
	})
}

// remove forgets the user. What was published of it stays on the topics, for as long as they keep it.
func (s *Service) remove(r *http.Request) (service.Nothing, error) {
	unlock, err := s.locks.Lock(r.Context(), r.PathValue("userId"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	u, ok := s.users.Get(r.PathValue("userId"))
	if !ok {
		return nil, noUser(r)
	}
	err = s.publisher.Publish(r.Context(), eventbus.UserDeleted.New(eventbus.UserDeletedPayload{UserID: u.UserID, DeletedAt: service.Now()}))
	if err != nil {
		return nil, err
	}
	s.users.Delete(u.UserID)
	s.userIDs.Delete(strings.ToLower(u.Email))
	return nil, nil
}
