// Rows of words, how they come and go. Searching and snapshots have files of their own.
#include "words.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace llmspell {

Words::Words(const WordsSettings &settings) : settings_(settings) {}

std::uint32_t Words::shape_of(std::size_t times, std::size_t first, std::size_t length) {
    return static_cast<std::uint32_t>(std::min<std::size_t>(times, kMostTimes)) << kTimesShift |
           static_cast<std::uint32_t>(std::min<std::size_t>(first, kLastPlace)) << kPlaceShift | capped(length);
}

Words::Row Words::row_of(Label label) const {
    const Label number = label >> kPageBits;
    std::uint32_t page;
    if (static_cast<std::uint64_t>(number) < pages_.size() && pages_[static_cast<std::size_t>(number)] == number) {
        page = static_cast<std::uint32_t>(number);  // as where labels have come in order, and none has gone
    } else {
        const auto held = page_of_.find(number);
        if (held == page_of_.end()) return kNone;
        page = held->second;
    }
    const Row row = page << kPageBits | static_cast<Row>(label & kPageMask);
    return live(row) ? row : kNone;
}

// --- room -----------------------------------------------------------------------------------------------------------

void Words::drop_bits(Postings &list) noexcept {
    if (list.bits != nullptr) --bits_;
    list.bits.reset();
}

// Bits that find no room are done without: they only save time.
void Words::make_bits(Postings &list) noexcept {
    drop_bits(list);
    list.bits.reset(new (std::nothrow) std::uint64_t[room_]());
    if (list.bits == nullptr) return;
    ++bits_;
    for (const Posting &one : std::span(list.at, list.size)) {
        if (one.shape != 0) list.bits[one.row >> kPageBits] |= std::uint64_t{1} << (one.row & kPageMask);
    }
}

void Words::make_room(std::size_t pages) {
    if (pages <= room_) return;
    const std::size_t room = std::max<std::size_t>(pages, room_ + room_ / 4 + 16);
    live_.resize(room);
    for (auto &slice : slices_) slice.resize(room);
    pages_.reserve(room);
    room_ = room;
    for (Postings &list : postings_) {
        if (list.bits == nullptr) continue;
        if (frequent(2 * list.rows)) {
            make_bits(list);
        } else {
            drop_bits(list);
        }
    }
}

std::uint32_t Words::reach_page(Label page) {
    const auto held = page_of_.find(page);
    if (held != page_of_.end()) return held->second;
    if (pages_.size() >= kMostSlots >> kPageBits) throw std::length_error("an index holds at most 2^31 rows");
    make_room(pages_.size() + 1);
    const auto number = static_cast<std::uint32_t>(pages_.size());
    contents_.reach(number);
    page_of_.emplace(page, number);
    pages_.push_back(page);
    live_[number] = 0;
    return number;
}

// The number of a term, which may be new.
Term Words::term_of(std::string_view text) {
    const Term known = vocabulary_.find(text);
    if (known != kNoTerm) return known;
    if (postings_.size() <= vocabulary_.numbers()) {
        if (postings_.size() == postings_.capacity()) postings_.reserve(2 * postings_.size() + 8);
        postings_.emplace_back();
    }
    return vocabulary_.add(text);
}

void Words::reach_length(std::size_t length) {
    const auto bits = static_cast<std::size_t>(std::bit_width(capped(length)));
    while (slices_.size() < bits) slices_.emplace_back(room_);
}

void Words::reach_posting(Term term) {
    Postings &list = postings_[term];
    if (list.size < list.capacity) return;
    const std::size_t capacity = Arena<Posting>::capacity_for(list.size + std::size_t{1});
    Posting *const fresh = posting_memory_.take(capacity);
    std::copy_n(list.at, list.size, fresh);
    posting_memory_.give(std::exchange(list.at, fresh), list.capacity);
    list.capacity = static_cast<std::uint32_t>(capacity);
}

// --- postings -------------------------------------------------------------------------------------------------------

// The row's posting, or the first of a row behind it.
Words::Posting *Words::posting_at(const Postings &list, Row row) {
    return std::lower_bound(list.at, list.at + list.size, row,
                            [](const Posting &one, Row wanted) { return one.row < wanted; });
}

void Words::bound(Postings &list, std::uint32_t shape) const noexcept {
    const std::uint32_t times = times_of(shape);
    std::uint32_t &shortest = times == 1 ? list.shortest_once : list.shortest_often;
    shortest = std::min(shortest, length_of(shape));
    list.most = std::max(list.most, times);
}

// There is room for one more.
void Words::put_posting(Term term, Row row, std::uint32_t shape) noexcept {
    Postings &list = postings_[term];
    Posting *const end = list.at + list.size;
    Posting *at = end;
    if (list.size > 0 && end[-1].row >= row) {
        at = posting_at(list, row);
    }
    if (at == end || at->row != row) {
        std::copy_backward(at, end, end + 1);
        ++list.size;
    }
    *at = {row, shape};
    ++list.rows;
    bound(list, shape);
    if (list.bits != nullptr) {
        list.bits[row >> kPageBits] |= std::uint64_t{1} << (row & kPageMask);
    } else if (frequent(list.rows)) {
        make_bits(list);
    }
}

// The posting stays, and says that there is none, until a quarter of them do.
void Words::drop_posting(Term term, Row row) noexcept {
    Postings &list = postings_[term];
    Posting *const at = posting_at(list, row);
    at->shape = 0;
    --list.rows;
    if (list.bits != nullptr) list.bits[row >> kPageBits] &= ~(std::uint64_t{1} << (row & kPageMask));
    if ((list.size - list.rows) * std::size_t{4} > list.size) tidy(list);
}

void Words::tidy(Postings &list) noexcept {
    Posting *const end = std::remove_if(list.at, list.at + list.size, [](const Posting &one) { return one.shape == 0; });
    std::fill(end, list.at + list.size, Posting{});
    list.size = list.rows;
    list.most = 0;
    list.shortest_once = list.shortest_often = kLongest;
    for (const Posting &one : std::span(list.at, list.size)) bound(list, one.shape);
    if (!frequent(2 * list.rows)) drop_bits(list);
    const std::size_t capacity = Arena<Posting>::capacity_for(list.size + std::size_t{1});  // a row may be about to come
    if (capacity * 2 > list.capacity) return;
    try {
        Posting *const fresh = posting_memory_.take(capacity);
        std::copy_n(list.at, list.size, fresh);
        posting_memory_.give(std::exchange(list.at, fresh), list.capacity);
        list.capacity = static_cast<std::uint32_t>(capacity);
    } catch (const std::bad_alloc &) {
        // It keeps what it has.
    }
}

void Words::drop_if_unused(Term term) noexcept {
    Postings &list = postings_[term];
    if (list.rows > 0 || !vocabulary_.holds(term)) return;
    posting_memory_.give(list.at, list.capacity);
    drop_bits(list);
    list = {};
    vocabulary_.drop(term);
}

// --- rows -----------------------------------------------------------------------------------------------------------

void Words::count_length(Row row, std::size_t length, bool there) noexcept {
    std::uint32_t left = capped(length);
    length_ += there ? left : std::uint64_t{0} - left;
    for (std::size_t bit = 0; left != 0; ++bit, left >>= 1) {
        if ((left & 1) != 0) slices_[bit][row >> kPageBits] ^= std::uint64_t{1} << (row & kPageMask);
    }
}

// Takes the row's postings and terms; terms that no row is left with stay for `drop_if_unused`.
void Words::clear(Row row) noexcept {
    Content &content = contents_.at(row >> kPageBits)[row & kPageMask];
    for_each_term({content.terms, content.count}, [&](Term term, std::size_t, std::size_t) { drop_posting(term, row); });
    count_length(row, content.count, false);
    content = {};
    --rows_;
}

void Words::stand_for(const Corpus &corpus) {
    const auto writer = gate_.writing();
    const auto lock = gate_.changing();
    rows_ = corpus.rows;
    length_ = corpus.length;
    for (const auto &[term, rows] : corpus.terms) postings_[term_of(term)].rows = rows;
}

void Words::add(Label label, std::span<const std::string_view> terms) {
    const auto writer = gate_.writing();
    const auto lock = gate_.changing();
    if (terms.size() > 0xFFFF'FFFF) throw std::length_error("a row holds at most 2^32 terms");
    const std::size_t capacity = Arena<Held>::capacity_for(terms.size());
    Held *const content = term_memory_.take(capacity);
    std::size_t known = 0;
    std::uint32_t page = kNoPage;
    try {
        for (const std::string_view text : terms) {
            content[known] = {term_of(text), static_cast<std::uint32_t>(known)};
            ++known;
        }
        std::sort(content, content + known);
        page = reach_page(label >> kPageBits);
        reach_length(known);
        for_each_term({content, known}, [&](Term term, std::size_t, std::size_t) { reach_posting(term); });
    } catch (...) {
        for (std::size_t i = 0; i < known; ++i) drop_if_unused(content[i].term);
        if (page != kNoPage) leave_page(page);
        term_memory_.give(content, capacity);
        throw;
    }
    // From here on nothing fails.
    const Row row = page << kPageBits | static_cast<Row>(label & kPageMask);
    const Content before = contents_.at(page)[row & kPageMask];
    if (live(row)) clear(row);
    for_each_term({content, known}, [&](Term term, std::size_t times, std::size_t first) {
        put_posting(term, row, shape_of(times, first, known));
    });
    count_length(row, known, true);
    contents_.at(page)[row & kPageMask] = {content, static_cast<std::uint32_t>(known)};
    live_[page] |= std::uint64_t{1} << (row & kPageMask);
    ++rows_;
    for_each_term({before.terms, before.count}, [&](Term term, std::size_t, std::size_t) { drop_if_unused(term); });
    term_memory_.give(before.terms, Arena<Held>::capacity_for(before.count));
}

bool Words::remove(Label label) {
    const auto writer = gate_.writing();
    const auto lock = gate_.changing();
    const Row row = row_of(label);
    if (row == kNone) return false;
    const Content before = contents_.at(row >> kPageBits)[row & kPageMask];
    clear(row);
    live_[row >> kPageBits] &= ~(std::uint64_t{1} << (row & kPageMask));
    for_each_term({before.terms, before.count}, [&](Term term, std::size_t, std::size_t) { drop_if_unused(term); });
    term_memory_.give(before.terms, Arena<Held>::capacity_for(before.count));
    leave_page(row >> kPageBits);
    return true;
}

// --- pages ----------------------------------------------------------------------------------------------------------

// A page without rows is gone; its number is not given to another, so that postings keep their order.
void Words::leave_page(std::uint32_t page) noexcept {
    if (live_[page] != 0) return;
    page_of_.erase(pages_[page]);
    pages_[page] = -1;
    ++gone_pages_;
    if (gone_pages_ * 2 > pages_.size()) close_gaps();
}

// Numbers the pages that are left anew, in their order.
void Words::close_gaps() noexcept {
    for (Postings &list : postings_) {
        if (list.size > list.rows) tidy(list);
    }
    std::uint32_t to = 0;
    for (std::uint32_t from = 0; from < pages_.size(); ++from) {
        if (pages_[from] < 0) continue;
        page_of_.find(pages_[from])->second = to;
        if (to != from) {
            std::copy_n(contents_.at(from), kPageLabels, contents_.at(to));
            std::fill_n(contents_.at(from), kPageLabels, Content{});
            live_[to] = std::exchange(live_[from], 0);
            for (auto &slice : slices_) slice[to] = std::exchange(slice[from], 0);
        }
        ++to;
    }
    // Each posting's page lies as many numbers lower as pages before it are gone; both go by row.
    for (Postings &list : postings_) {
        std::uint32_t page = 0;
        std::uint32_t left = 0;  // pages below it that are left
        for (Posting &one : std::span(list.at, list.size)) {
            for (; page < one.row >> kPageBits; ++page) left += pages_[page] >= 0 ? 1 : 0;
            one.row = left << kPageBits | (one.row & static_cast<Row>(kPageMask));
        }
    }
    pages_.erase(std::remove(pages_.begin(), pages_.end(), Label{-1}), pages_.end());
    gone_pages_ = 0;
    for (Postings &list : postings_) {
        if (list.bits == nullptr) continue;
        std::fill_n(list.bits.get(), room_, 0);
        for (const Posting &one : std::span(list.at, list.size)) {
            list.bits[one.row >> kPageBits] |= std::uint64_t{1} << (one.row & kPageMask);
        }
    }
}

// --- figures and invariants -----------------------------------------------------------------------------------------

std::size_t Words::size() const {
    const auto lock = gate_.reading();
    return rows_;
}

std::size_t Words::terms() const {
    const auto lock = gate_.reading();
    return vocabulary_.size();
}

std::size_t Words::memory_bytes() const {
    constexpr std::size_t kNode = 40;  // key, number, link, bucket and an allocation's header
    const auto lock = gate_.reading();
    return vocabulary_.memory_bytes() + postings_.capacity() * sizeof(Postings) + posting_memory_.memory_bytes() +
           term_memory_.memory_bytes() + contents_.memory_bytes() + page_of_.size() * kNode +
           pages_.capacity() * sizeof(Label) + (1 + slices_.size() + bits_) * room_ * sizeof(std::uint64_t);
}

std::string Words::check() const {
    const auto writer = gate_.writing();
    std::vector<std::size_t> rows_with(postings_.size());
    std::size_t rows = 0;
    std::uint64_t length = 0;
    for (std::size_t page = 0; page < pages_.size(); ++page) {
        const auto held = page_of_.find(pages_[page]);
        if (pages_[page] < 0 ? live_[page] != 0 : live_[page] == 0) return "a page is there without rows, or not there with some";
        if (pages_[page] >= 0 && (held == page_of_.end() || held->second != page)) return "a page is not found";
        for (Row row = static_cast<Row>(page << kPageBits); row < (page + 1) << kPageBits; ++row) {
            const auto terms = terms_of(row);
            std::uint32_t sliced = 0;
            for (std::size_t bit = 0; bit < slices_.size(); ++bit) {
                sliced |= static_cast<std::uint32_t>(slices_[bit][page] >> (row & kPageMask) & 1) << bit;
            }
            if (sliced != capped(terms.size())) return "a row's length is not that of its terms";
            if (!live(row)) {
                if (!terms.empty()) return "a row that is not there has terms";
                continue;
            }
            ++rows;
            length += capped(terms.size());
            if (!std::is_sorted(terms.begin(), terms.end())) return "a row's terms have no order";
            std::string fault;
            for_each_term(terms, [&](Term term, std::size_t times, std::size_t first) {
                if (!vocabulary_.holds(term)) {
                    fault = "a row has a term that is not there";
                    return;
                }
                ++rows_with[term];
                const Postings &list = postings_[term];
                const Posting *const end = list.at + list.size;
                const Posting *const at = posting_at(list, row);
                if (at == end || at->row != row || at->shape != shape_of(times, first, terms.size())) {
                    fault = "a row's term has no posting that tells of it";
                }
            });
            if (!fault.empty()) return fault;
        }
    }
    if (rows != rows_ || length != length_) return "rows or their length are miscounted";
    if (page_of_.size() + gone_pages_ != pages_.size()) return "pages are miscounted";
    std::size_t with_bits = 0;
    for (Term term = 0; term < postings_.size(); ++term) {
        const Postings &list = postings_[term];
        const bool there = term < vocabulary_.numbers() && vocabulary_.holds(term);
        if (there != (list.rows > 0)) return "a term is there without rows, or not there with some";
        if (list.rows != rows_with[term]) return "a term's rows are miscounted";
        if (there && vocabulary_.find(vocabulary_.text(term)) != term) return "a term is not found";
        std::size_t set = 0;
        for (std::size_t i = 0; i < list.size; ++i) {
            const Posting &one = list.at[i];
            if (i > 0 && list.at[i - 1].row >= one.row) return "postings have no order";
            if (one.shape == 0) continue;
            const std::uint32_t shortest = times_of(one.shape) == 1 ? list.shortest_once : list.shortest_often;
            if (times_of(one.shape) > list.most || length_of(one.shape) < shortest) return "a term's bounds do not hold";
            if (list.bits != nullptr && (list.bits[one.row >> kPageBits] >> (one.row & kPageMask) & 1) == 0) return "a bit is missing";
        }
        if (list.bits == nullptr) continue;
        ++with_bits;
        for (std::size_t page = 0; page < room_; ++page) set += static_cast<std::size_t>(std::popcount(list.bits[page]));
        if (set != list.rows) return "a term has bits of rows without it";
    }
    if (with_bits != bits_) return "terms with bits are miscounted";
    return {};
}

}  // namespace llmspell
