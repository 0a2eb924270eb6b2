// Rows, the terms that they have in common, and how both come and go. Filters have a file of their own.
#include "turns.hpp"

#include <algorithm>
#include <bit>
#include <random>

namespace llmspell {
namespace {

std::uint64_t random_word() {
    std::random_device random;
    return static_cast<std::uint64_t>(random()) << 32 | random();
}

std::uint32_t short_hash(const Hash128 &hash) { return static_cast<std::uint32_t>(hash.low); }

std::uint64_t bit_of(Label label) { return std::uint64_t{1} << (label & kPageMask); }

// A number for something new: one that is free, or one more, for which everything has room.
template <class T>
Slot free_number(std::vector<T> &all, std::vector<Slot> &free) {
    if (!free.empty()) return free.back();
    const auto number = static_cast<Slot>(all.size());
    if (free.capacity() <= number) free.reserve(number + std::size_t{1} + number / 2);
    all.emplace_back();
    free.push_back(number);
    return number;
}

}  // namespace

TurnTable::TurnTable() : TurnTable(Hash128{random_word(), random_word()}) {}

TurnTable::TurnTable(const Hash128 &key) : key_(key) { reach_term(hash_of(Kind::name_space, {}), kNone); }

// --- hashes ---------------------------------------------------------------------------------------------------------

Hash128 TurnTable::hash_of(Kind kind, std::string_view text, const Hash128 &above) const {
    return SipHash(key_).add(static_cast<std::uint64_t>(kind)).add(above).add(text).finish();
}

std::vector<Hash128> TurnTable::hashes_of(std::span<const std::string_view> name_space) const {
    std::vector<Hash128> hashes;
    hashes.reserve(name_space.size());
    for (const std::string_view segment : name_space) {
        hashes.push_back(hash_of(Kind::name_space, segment, hashes.empty() ? Hash128{} : hashes.back()));
    }
    return hashes;
}

TurnTable::Hashes TurnTable::hashes_of(const Turn &turn) const {
    Hashes hashes;
    hashes.name_spaces = hashes_of(turn.name_space);
    hashes.session_name = hash_of(Kind::session_name, turn.session);
    const Hash128 above = hashes.name_spaces.empty() ? Hash128{} : hashes.name_spaces.back();
    hashes.session = hash_of(Kind::session, turn.session, above);
    hashes.role = hash_of(Kind::role, turn.role);
    hashes.facts.reserve(turn.facts.size());
    for (const std::string_view fact : turn.facts) hashes.facts.push_back(hash_of(Kind::fact, fact));
    return hashes;
}

// --- finding --------------------------------------------------------------------------------------------------------

const TurnTable::Page *TurnTable::page_of(Label label) const {
    const Sheet *const sheet = sheets_.find(label >> kPageBits);
    if (sheet == nullptr || sheet->page == nullptr || (sheet->page->live & bit_of(label)) == 0) return nullptr;
    return sheet->page.get();
}

TurnTable::Id TurnTable::find_term(const Hash128 &hash) const {
    return term_table_.find(short_hash(hash), [&](Id id) { return terms_[id].hash == hash; });
}

TurnTable::Seat TurnTable::seat(Label label) const {
    const Page *const page = page_of(label);
    if (page == nullptr) return {};
    const std::vector<Place> &order = sessions_[page->sessions[label & kPageMask]].order;
    const Place place{page->moments[kHappened][label & kPageMask], label};
    return {order, static_cast<std::size_t>(std::lower_bound(order.begin(), order.end(), place) - order.begin())};
}

TurnTable::Id TurnTable::View::role_named(std::string_view name) const {
    return table_.find_term(table_.hash_of(Kind::role, name));
}

TurnTable::Id TurnTable::View::fact_named(std::string_view fact) const {
    return table_.find_term(table_.hash_of(Kind::fact, fact));
}

void TurnTable::View::prefetch_row(Label label) const {
    const Sheet *const sheet = table_.sheets_.find(label >> kPageBits);
    if (sheet == nullptr || sheet->page == nullptr) return;
    prefetch(sheet->page.get());
    prefetch(&sheet->page->sessions[static_cast<std::size_t>(label & kPageMask)]);
    prefetch(&sheet->page->moments[kHappened][static_cast<std::size_t>(label & kPageMask)]);
}

std::optional<std::pair<TurnTable::Id, TurnTable::Place>> TurnTable::View::find(Label label) const {
    const Page *const page = table_.page_of(label);
    if (page == nullptr) return {};
    const auto at = static_cast<std::size_t>(label & kPageMask);
    return std::pair(page->sessions[at], Place{page->moments[kHappened][at], label});
}

void TurnTable::View::sample(std::size_t count, const LabelSet *among, std::vector<Label> &labels) const {
    labels.clear();
    const Posting &all = table_.terms_[kRoot].rows;
    const auto for_each_page = [&](auto visit) {
        for (std::size_t i = 0; i < all.masks().size(); ++i) {
            const Label number = all.masks().number(i);
            const std::uint64_t mask = all.masks().value(i) & (among == nullptr ? ~std::uint64_t{0} : among->mask(number));
            if (mask != 0) visit(number, mask);
        }
    };
    std::size_t rows = among == nullptr ? all.size() : 0;
    if (among != nullptr) {
        for_each_page([&](Label, std::uint64_t mask) { rows += static_cast<std::size_t>(std::popcount(mask)); });
    }
    const std::size_t wanted = std::min(count, rows);
    std::size_t before = 0;
    for_each_page([&](Label number, std::uint64_t mask) {
        const std::size_t here = mask == ~std::uint64_t{0} ? kPageLabels : static_cast<std::size_t>(std::popcount(mask));
        // The i-th of those wanted is the row of this number.
        for (std::size_t next; labels.size() < wanted && (next = labels.size() * rows / wanted) < before + here;) {
            std::uint64_t left = mask;
            for (std::size_t skip = next - before; skip > 0; --skip) left &= left - 1;
            labels.push_back((number << kPageBits) + std::countr_zero(left));
        }
        before += here;
    });
}

Neighbours TurnTable::neighbours(Label label, std::size_t before, std::size_t after, Moment now, Moment known_by) const {
    Neighbours found;
    const auto lock = gate_.reading();
    const auto [session, at] = seat(label);
    const auto shown = [&](Label one) {
        const Page &page = *page_of(one);
        return page.moments[kExpires][one & kPageMask] > now && page.moments[kLearned][one & kPageMask] <= known_by;
    };
    for (std::size_t i = at; i-- > 0 && found.before.size() < before;) {
        if (shown(session[i].label)) found.before.push_back(session[i].label);
    }
    std::reverse(found.before.begin(), found.before.end());
    for (std::size_t i = at + 1; i < session.size() && found.after.size() < after; ++i) {
        if (shown(session[i].label)) found.after.push_back(session[i].label);
    }
    return found;
}

// --- putting --------------------------------------------------------------------------------------------------------

void TurnTable::put(const Turn &turn) {
    const auto writer = gate_.writing();
    const Hashes hashes = hashes_of(turn);
    Links links;
    links.facts.reserve(hashes.facts.size());
    const auto lock = gate_.changing();
    try {
        reach(hashes, links);
        make_room(turn.label, links);
    } catch (...) {
        release(links);
        tidy_page(turn.label);
        throw;
    }
    const Links before = take(turn.label);
    place(turn, std::move(links));
    release(before);
}

// Makes everything exist that the row has; what was made is in `links`, come what may.
void TurnTable::reach(const Hashes &hashes, Links &links) {
    links.role = reach_term(hashes.role, kNone);
    for (const Hash128 &fact : hashes.facts) links.facts.push_back(reach_term(fact, kNone));
    links.session = reach_session(hashes.session);
    Session &session = sessions_[links.session];
    if (session.name != kNone) return;
    session.name_space = kRoot;
    for (const Hash128 &one : hashes.name_spaces) session.name_space = reach_term(one, session.name_space);
    session.name = reach_term(hashes.session_name, kNone);
}

// Makes room for a row everywhere, so that to place it cannot fail.
void TurnTable::make_room(Label label, const Links &links) {
    Sheet &sheet = sheets_.reach(label >> kPageBits);
    if (sheet.page == nullptr) sheet.page = std::make_unique<Page>();
    std::vector<Place> &order = sessions_[links.session].order;
    if (order.size() == order.capacity()) order.reserve(order.size() + order.size() / 2 + 1);
    for_each_term(links, [&](Id id) { terms_[id].rows.reserve(label); });
}

TurnTable::Id TurnTable::reach_term(const Hash128 &hash, Id parent) {
    if (const Id known = find_term(hash); known != kNone) return known;
    const Id id = free_number(terms_, free_terms_);
    term_table_.reserve(terms_.size());
    free_terms_.pop_back();
    terms_[id].hash = hash;
    terms_[id].parent = parent;
    term_table_.insert(short_hash(hash), id);
    return id;
}

TurnTable::Id TurnTable::reach_session(const Hash128 &hash) {
    const Id known = session_table_.find(short_hash(hash), [&](Id id) { return sessions_[id].hash == hash; });
    if (known != kNone) return known;
    const Id id = free_number(sessions_, free_sessions_);
    session_table_.reserve(sessions_.size());
    free_sessions_.pop_back();
    sessions_[id].hash = hash;
    session_table_.insert(short_hash(hash), id);
    return id;
}

// Visits the terms of a row. The next one is known before a visit, which may drop the one visited.
template <class Visit>
void TurnTable::for_each_term(const Links &links, Visit visit) const {
    for (const Id fact : links.facts) visit(fact);
    if (links.role != kNone) visit(links.role);
    if (links.session == kNone) return;
    const Session &session = sessions_[links.session];
    if (session.name != kNone) visit(session.name);
    for (Id id = session.name_space; id != kNone;) {
        const Id above = terms_[id].parent;
        visit(id);
        id = above;
    }
}

void TurnTable::place(const Turn &turn, Links links) noexcept {
    const auto at = static_cast<std::size_t>(turn.label & kPageMask);
    for_each_term(links, [&](Id id) { terms_[id].rows.set(turn.label); });
    Session &session = sessions_[links.session];
    ++terms_[session.name_space].alone;
    const Place place{turn.happened, turn.label, turn.length, turn.worth};
    session.order.insert(std::upper_bound(session.order.begin(), session.order.end(), place), place);
    Sheet &sheet = *sheets_.find(turn.label >> kPageBits);
    Page &page = *sheet.page;
    page.live |= bit_of(turn.label);
    if (turn.processed) page.processed |= bit_of(turn.label);
    page.moments[kHappened][at] = turn.happened;
    page.moments[kLearned][at] = turn.learned;
    page.moments[kExpires][at] = turn.expires;
    page.sessions[at] = links.session;
    page.roles[at] = links.role;
    page.facts[at] = std::move(links.facts);
    measure(sheet);
    soonest_ = std::min(soonest_.load(), turn.expires);
}

// --- removing -------------------------------------------------------------------------------------------------------

bool TurnTable::remove(Label label) {
    const auto writer = gate_.writing();
    const auto lock = gate_.changing();
    if (page_of(label) == nullptr) return false;
    release(take(label));
    tidy_page(label);
    return true;
}

// Takes out the row, if there is one, and returns what it was noted at; what nobody has any more is still to be released.
TurnTable::Links TurnTable::take(Label label) noexcept {
    if (page_of(label) == nullptr) return {};
    const auto at = static_cast<std::size_t>(label & kPageMask);
    Sheet &sheet = *sheets_.find(label >> kPageBits);
    Page &page = *sheet.page;
    Links links{page.sessions[at], page.roles[at], std::move(page.facts[at])};
    for_each_term(links, [&](Id id) { terms_[id].rows.clear(label); });
    Session &session = sessions_[links.session];
    --terms_[session.name_space].alone;
    session.order.erase(std::lower_bound(session.order.begin(), session.order.end(), Place{page.moments[kHappened][at], label}));
    page.live &= ~bit_of(label);
    page.processed &= ~bit_of(label);
    for (Times &times : page.moments) times[at] = 0;
    page.sessions[at] = page.roles[at] = 0;
    page.facts[at] = {};
    measure(sheet);
    return links;
}

void TurnTable::release(const Links &links) noexcept {
    for_each_term(links, [&](Id id) { release_term(id); });
    if (links.session != kNone) release_session(links.session);
}

void TurnTable::release_term(Id id) noexcept {
    Term &term = terms_[id];
    term.rows.tidy();
    if (term.rows.size() > 0 || id == kRoot || term.hash == Hash128{}) return;
    term_table_.erase(short_hash(term.hash), id);
    term = {};
    free_terms_.push_back(id);  // there is room for all
}

void TurnTable::release_session(Id id) noexcept {
    Session &session = sessions_[id];
    if (!session.order.empty()) return;
    session_table_.erase(short_hash(session.hash), id);
    session = {};
    free_sessions_.push_back(id);
}

void TurnTable::tidy_page(Label label) noexcept {
    Sheet *const sheet = sheets_.find(label >> kPageBits);
    if (sheet == nullptr || (sheet->page != nullptr && sheet->page->live != 0)) return;
    sheet->page.reset();
    if (++blank_sheets_ <= sheets_.size() / 2) return;
    sheets_.drop([](const Sheet &one) { return one.page == nullptr; });
    blank_sheets_ = 0;
}

void TurnTable::measure(Sheet &sheet) noexcept {
    for (std::size_t column = 0; column < kColumns; ++column) {
        Range span{kNever, kEarliest};
        for (std::uint64_t mask = sheet.page->live; mask != 0; mask &= mask - 1) {
            const Moment moment = sheet.page->moments[column][std::countr_zero(mask)];
            span.least = std::min(span.least, moment);
            span.most = std::max(span.most, moment);
        }
        sheet.spans[column] = span;
    }
}

// --- figures and invariants -----------------------------------------------------------------------------------------

std::size_t TurnTable::size() const {
    const auto lock = gate_.reading();
    return terms_[kRoot].rows.size();
}

std::size_t TurnTable::memory_bytes() const {
    const auto lock = gate_.reading();
    std::size_t bytes = terms_.capacity() * sizeof(Term) + sessions_.capacity() * sizeof(Session) +
                        (free_terms_.capacity() + free_sessions_.capacity()) * sizeof(Id) + term_table_.memory_bytes() +
                        session_table_.memory_bytes() + sheets_.memory_bytes();
    for (const Term &term : terms_) bytes += term.rows.memory_bytes();
    for (const Session &session : sessions_) bytes += session.order.capacity() * sizeof(Place);
    for (std::size_t at = 0; at < sheets_.size(); ++at) {
        const Page *const page = sheets_.value(at).page.get();
        if (page == nullptr) continue;
        bytes += sizeof(Page);
        for (const auto &facts : page->facts) bytes += facts.capacity() * sizeof(Id);
    }
    return bytes;
}

std::string TurnTable::check() const {
    const auto lock = gate_.reading();
    for (const auto check : {&TurnTable::check_sheets, &TurnTable::check_terms, &TurnTable::check_sessions}) {
        if (std::string fault = (this->*check)(); !fault.empty()) return fault;
    }
    return {};
}

std::string TurnTable::check_row(Label label, const Page &page) const {
    const auto at = static_cast<std::size_t>(label & kPageMask);
    const Links links{page.sessions[at], page.roles[at], page.facts[at]};
    std::string fault;
    for_each_term(links, [&](Id id) {
        if (!terms_[id].rows.contains(label)) fault = "is not in the posting of one of its terms";
    });
    const auto [session, place] = seat(label);
    if (place >= session.size() || session[place].label != label) fault = "is not where its session has it";
    if (page.moments[kExpires][at] < soonest_) fault = "expires before any is said to";
    return fault;
}

std::string TurnTable::check_sheets() const {
    std::size_t rows = 0;
    for (std::size_t i = 0; i < sheets_.size(); ++i) {
        const Page *const page = sheets_.value(i).page.get();
        if (i > 0 && sheets_.number(i - 1) >= sheets_.number(i)) return "pages are out of order";
        if (page == nullptr) continue;
        if (page->live == 0) return "a page without rows is kept";
        if ((page->processed & ~page->live) != 0) return "a row that is not there is marked";
        Sheet measured;
        measured.page = std::make_unique<Page>();
        measured.page->live = page->live;
        measured.page->moments = page->moments;
        measure(measured);
        for (std::size_t column = 0; column < kColumns; ++column) {
            const Range &span = sheets_.value(i).spans[column];
            if (span.least != measured.spans[column].least || span.most != measured.spans[column].most) {
                return "the span of a page is not that of its rows";
            }
        }
        for (std::size_t at = 0; at < kPageLabels; ++at) {
            const Label label = (sheets_.number(i) << kPageBits) + static_cast<Label>(at);
            if ((page->live & bit_of(label)) == 0) {
                if (page->moments[kHappened][at] != 0 || !page->facts[at].empty()) return "a row that is gone left something";
                continue;
            }
            ++rows;
            if (const std::string fault = check_row(label, *page); !fault.empty()) {
                return "row " + std::to_string(label) + ' ' + fault;
            }
        }
    }
    return rows == terms_[kRoot].rows.size() ? "" : "rows are not counted right";
}

// That no posting has a label too many follows from the sum: each row is in the postings of all its terms.
std::string TurnTable::check_terms() const {
    std::size_t noted = 0;
    std::size_t wanted = 0;
    std::size_t free = 0;
    for (Id id = 0; id < terms_.size(); ++id) {
        const Term &term = terms_[id];
        if (term.hash == Hash128{}) {
            ++free;
            continue;
        }
        if (find_term(term.hash) != id) return "a term is not found by its hash";
        if (term.rows.size() == 0 && id != kRoot) return "a term without rows is kept";
        std::size_t counted = 0;
        for (std::size_t at = 0; at < term.rows.masks().size(); ++at) {
            counted += static_cast<std::size_t>(std::popcount(term.rows.masks().value(at)));
        }
        if (counted != term.rows.size()) return "a posting is not counted right";
        noted += counted;
    }
    for (std::size_t i = 0; i < sheets_.size(); ++i) {
        const Page *const page = sheets_.value(i).page.get();
        for (std::uint64_t mask = page == nullptr ? 0 : page->live; mask != 0; mask &= mask - 1) {
            const auto at = static_cast<std::size_t>(std::countr_zero(mask));
            std::vector<Id> own;
            for_each_term({page->sessions[at], page->roles[at], page->facts[at]}, [&](Id id) { own.push_back(id); });
            std::sort(own.begin(), own.end());
            wanted += static_cast<std::size_t>(std::unique(own.begin(), own.end()) - own.begin());
        }
    }
    if (noted != wanted) return "a posting has a row without its term";
    return free == free_terms_.size() ? "" : "a term is neither in use nor free";
}

std::string TurnTable::check_sessions() const {
    std::vector<std::uint32_t> alone(terms_.size());
    std::size_t rows = 0;
    std::size_t free = 0;
    for (Id id = 0; id < sessions_.size(); ++id) {
        const Session &session = sessions_[id];
        if (session.order.empty()) {
            ++free;
            continue;
        }
        const Id found = session_table_.find(short_hash(session.hash), [&](Id one) { return sessions_[one].hash == session.hash; });
        if (found != id) return "a session is not found by its hash";
        if (std::adjacent_find(session.order.begin(), session.order.end(), std::greater_equal<>()) != session.order.end()) {
            return "a session is out of order";
        }
        alone[session.name_space] += static_cast<std::uint32_t>(session.order.size());
        rows += session.order.size();
    }
    for (Id id = 0; id < terms_.size(); ++id) {
        if (terms_[id].alone != alone[id]) return "the rows of a namespace are not counted right";
    }
    if (rows != terms_[kRoot].rows.size()) return "a session has a row too many";
    return free == free_sessions_.size() ? "" : "a session is neither in use nor free";
}

}  // namespace llmspell
