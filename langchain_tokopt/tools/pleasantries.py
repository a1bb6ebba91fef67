"""What people say when they only want to be polite, for `small_talk`.

In all of it "(a|b)" is one of these, "[a|b]" one of these or nothing, and "<name>" what `NAMED` has under that name. A
comma or the end of a line ends a phrase. Case, accents, apostrophes and punctuation do not count: "whats" is "What's".

Left out is whatever a tool may answer: jokes, facts, news ("what's new?"), what the assistant can do, and what a shop
may be asked ("where are you located?", "do you have cats?").
"""

NAMED = {
    "you": "(you|u|ya)",
    "are": "(are|r)",
    "youre": "(youre|you are|ur|u r|you were|you have been|youve been)",
    "thats": "(thats|that is|that was|this is|this was|its|it is|it was)",
    "whats": "(whats|what is|what was)",
    "yours": "(whats|what is|what was|tell me|give me|share) (your|ur)",
    "very": "[so |very |really |truly |just |super |most |absolutely |quite |such ]",
    "good": "(good|great|nice|lovely|wonderful|awesome|amazing|fantastic|excellent|perfect|brilliant|cool|fine)",
    "kind": "(kind|sweet|smart|clever|funny|helpful|the best|a genius|a star|a legend|a lifesaver|a big help)",
    "day": "(day|morning|afternoon|evening|night|weekend|week|one|time)",
    "made": "(made|created|built|programmed|designed|developed|invented|constructed|engineered|coded)",
    "maker": "(maker|creator|developer|inventor|programmer|designer|owner|boss|employer)",
    "a": "[a |an |any |some |real |a real |an actual |a live |just a |really a ]",
    "bot": "(bot|robot|human|human being|person|machine|computer|ai|chatbot|program|computer program|real|alive)",
    "hobbies": "(hobby|hobbies|interests|pastimes)",
}

# Each of these is small talk by itself: greetings, thanks, farewells, praise, and questions about the assistant.
ENGLISH = """
[why |well ](hello|hi|hey|hiya|howdy|yo|greetings|gday|aloha|salutations)
[a very ]good (morning|afternoon|evening|day)
[its |it is ]<very>(<good>|pleased|glad|happy|pleasure) to (meet|see|talk to|hear from) <you>, long time no see
whats (up|good), what is up, (wassup|sup|waddup), how (<are>|have) <you>[ doing| been| feeling| been doing]
how (are|is) (things|everything|life)[ going| treating you][ for you| with you]
how (goes it|do you do|you doing|ya doing|do you feel)
(how is|hows|how) (it|everything|life|things) (going|been|hanging), hows (it|everything|life|things)
(how|hows|how is|how was|how has) your <day>[ going| been]
[i ](hope|trust) (you are|youre|your day is|all is|everything is) [doing |going ](well|good|fine|great)
are (you|things) [doing |feeling |going ](ok|okay|well|alright|good)[ for you| with you], are you there
how (youre|you are|youve been|you have been)[ doing], (is anyone|is anybody|anyone|anybody|you) there
(im|i am) [doing ](good|fine|great|well|ok|okay), (how about|what about|and) (you|yourself), not (much|bad)
(happy|merry) (birthday|christmas|new year|easter|holidays|thanksgiving|halloween|diwali|hanukkah|eid|weekend|friday)

[i |we |why ][want to |need to |would like to |really ](thanks|thank you|thank u|thank ya|thankyou)
(thx|ty|tysm|tyvm|cheers), (many|much|a thousand|a million) thanks
[i |we ][do |greatly |sincerely ]<very>appreciate (it|that|this|you|everything|all you do|all of it)
[i |we ][do |greatly |sincerely ]<very>appreciate [all |all of ](your|the|that) (help|time|support|assistance|answer)
[thats |that is |your help is ]<very>[much |greatly |very much ](appreciated|grateful|thankful)
[im |i am |much ]<very>(grateful|thankful|obliged), (that|this|it|you) [really ](helped|helps)[ me| a lot]
(<thats>|<youre>) <very>[of ][a ][big |great ](helpful|useful|help), (i|we) (cant|cannot|can not) thank you enough
(thats|that is|that will be|thatll be|that would be) all[ i need| i needed| i wanted], no (thanks|thank you)

(bye|goodbye|good bye|bye bye|farewell|so long|cya|ciao|adios|cheerio|ttyl|peace out|laters)
[i will |ill |well |we will ](see|c|catch|talk to|speak to|chat with) <you>, [we will ](talk|speak|chat) (later|soon)
(until|till|til) (next time|then|tomorrow|later|we meet again), (good night|goodnight|night night|sweet dreams)
(take care|take it easy|be well|stay safe|all the best|best wishes|good luck|sleep well|signing off|gtg|g2g)
[you |i hope you ](have|enjoy) (a|an|your|the|the rest of your|yourself a) <very>[<good> |blessed ]<day>
(i|im|i am|ive|i have) (gotta|got to|have to|need to|must|going to|gonna|better) (go|run|leave|get going)
(i must |i have to |its time to |it is time to )(go|say goodbye), (gotta|got to|have to|time to|better) (go|run|leave)
(im|i am) (off|out|leaving|heading out|done|done here)
[was |it was |its been |it has been |its ]<very>[a ](<good>|fun|pleasure|joy) (talking|chatting|speaking|meeting|seeing)
[was |it was |its been |it has been |its ]<very>[a ](<good>|pleasure|fun) to (talk|chat|speak)[ to| with] you
[was |this was |it was |its been |its ]<very>[a ]<good> (chat|talk|conversation)[ with you]
i enjoyed (talking|chatting)

(<good>|well) (job|work|going|one|bot|done), (bravo|kudos|congrats|congratulations|keep it up|way to go|nailed it)
(you|u) [really ](rock|rule|nailed it|did it|did well|did great|did a good job|did a great job|made my day)
<youre> <very>(<good>|<kind>), <youre> [the |a |an ](best|genius|star|legend|angel|gem|hero|good bot|good friend)
i [really |just |do ](love|like) (you|talking to you|chatting with you), will you (marry me|be my friend)
(<thats>|how|what a) <very>(<good>|<kind>|hilarious|impressive), (good|great|nice|glad) to (hear|know)[ that| it]
[im |i am |so ]<very>sorry[ about that], (my apologies|my bad|no problem|no worries|my pleasure|likewise)
[youre |you are ][very |most ]welcome, same (to you|here), you too, dont mention it, (lol|lmao|haha|hahaha|hehe)

(who|what) (<are>|exactly are) <you>, introduce yourself, tell me [a bit |a little |more ]about yourself
<yours> [full |first |last |real |actual ]name, (your|ur) name, what your name is
(what|how) (do|should|can|may|shall) (i|we|people|they|others) (call|address) <you>, what are <you> (called|named)
do you (have|go by) (a|any) [real |nick]name, what do you (go by|like to be called|want to be called)
<are> <you> [really |actually |just ]<a><bot>, (if|whether) you are <a><bot>
(am i|is this) [really |actually ][talking |speaking |chatting ](to|with) [a |an ][real |live |actual ]<bot>
how (old|young) (<are>|is) <you>, how old you are, <yours> age, [what ](your|ur) age[ is]
(how many years old|what age) are you, how long have you been (alive|around|here)
(when|where|how) you were (born|<made>)
(<yours>|when is your|whens your) (birthday|birth date|date of birth)
(when|where|what year|in what year|by whom|why|how) (were|was) <you> (born|<made>)
(who|what company|which company|who was it that) [has |actually ]<made> <you>, who (were|was|are) <you> <made> by
(who is|whos|who was|who are|whats the name of) your <maker>[s], your <maker>[s][ name]
(who|whom|what company|which company|for whom) (do|are) <you> (work|working|report|answer)[ for| to]
where (<are>|do|did|were) <you> [originally ](from|come from|born|live|living|originate from|hail from)
where (you are|you come|you were) (from|born), (where is|wheres|<whats>) your (home|hometown|birthplace|place of birth)
what (country|city|state|place) (are|do) you [come ](from|live in), do <you> [really ]have <a>(friends|kids|feelings)
(do|did) <you> [really |currently ](have|own|keep|like) <a>(pet|pets|<hobbies>), (have you|you have|you got) <a>pets
(how many|what|which|what kind of|what type of|what kinds of) (pets|<hobbies>) do <you> (have|own|like|enjoy)
(what are|whats|what is|tell me|tell me about) [some of |one of |a few of ]your [favorite |main ](<hobbies>|pets)
your <hobbies>, what your <hobbies> are, (what is|whats) your favo[u]rite (color|colour|food|movie|book|song|animal)
what (do|would|hobbies do|activities do|kind of things do|things do) <you> [like |love |enjoy ][to ](do|doing) for fun
what (do|would|hobbies do|activities do|things do) <you> [like |love |enjoy ][to ](do|doing) in your (free|spare) time
how do you [like to ](spend|pass) your (free|spare) time, what are you (interested in|into|passionate about)
do you (sleep|dream|eat|love me|like me), are you (happy|sad|busy|tired|bored|single|married|smart)
(what is|whats|what do you think is|is there) (the|a|any) [true |real ](meaning|point|purpose) (of|to|in) [our ]life
(what is|whats) life [all ]about, why (are we|are we all|are humans) (here|alive), why do (we|humans) exist
"""

# Spanish, French, German, Portuguese, Italian, Dutch, Polish, Turkish, Russian, Chinese, Japanese, Korean, Arabic and
# Hindi.
OTHER_LANGUAGES = """
hola, buenos dias, buenas[ tardes| noches], (que|como) (tal|estas|esta usted|esta|te va), [muchas |mil ]gracias
gracias por (todo|tu ayuda|su ayuda|la ayuda), (adios|chao|chau), hasta (luego|manana|pronto|la vista|la proxima)
nos vemos, cuidate, de nada, mucho gusto, encantado, encantada, quien eres, como te llamas, cual es tu nombre
que teng(as|a) un buen (dia|fin de semana), muy (bien|amable), igualmente, feliz (navidad|cumpleanos|ano nuevo)

(bonjour|salut|bonsoir|coucou|bonne (nuit|journee|soiree)), [comment ](ca va|allez vous|vas tu), enchante
merci[ beaucoup| bien| infiniment| pour tout| pour votre aide| pour ton aide], au revoir, a (bientot|plus|demain)
de rien, je (vous|te) remercie, qui es tu, comment (tu tappelles|tappelles tu|vous appelez vous), adieu

(hallo|moin|servus|gruss gott|gruss dich|guten (tag|morgen|abend)|gute nacht), wie (gehts|geht es (dir|ihnen))
danke[ schon| sehr| vielmals| fur alles], dankeschon, (vielen|besten|herzlichen|tausend) dank
danke fur (deine|ihre|die) hilfe, (tschuss|tschus|tschau|auf wiedersehen|bis (bald|dann|morgen|spater)), machs gut
[einen ]schonen (tag|abend)[ noch], schones wochenende, bitte (schon|sehr), gern geschehen, wer bist du
wie heisst du, freut mich

(ola|oi|bom dia|boa tarde|boa noite), (tudo bem|tudo bom|como vai|como esta|como voce esta|e ai), prazer, valeu
[muito ](obrigado|obrigada|brigado)[ por tudo| pela ajuda], (tchau|adeus), ate (logo|mais|amanha|breve), de nada
quem e voce, (qual e o seu nome|qual o seu nome|como voce se chama), [tenha ]um (bom|otimo) dia

(salve|buongiorno|buon giorno|buonasera|buona sera|buonanotte|buona notte|buona giornata), come (stai|sta|va)
[molte |tante ]grazie[ mille| tante| di tutto| per laiuto], arrivederci, addio, a (presto|dopo|domani), ci vediamo
prego, piacere, chi sei, come ti chiami

(hoi|goedemorgen|goedemiddag|goedenavond|goedenacht|dag|doei), hoe gaat het[ met (je|jou|u)]
(bedankt|dank je|dank u|dankjewel|dank je wel|dank u wel|hartelijk dank)[ voor (je|uw|de) hulp], graag gedaan
tot (ziens|straks|morgen|later|de volgende keer), fijne (dag|avond)[ nog], wie ben je, hoe heet je

(czesc|hej|witaj|witam|siema|dzien dobry|dobry wieczor|dobranoc), (jak sie masz|co slychac|jak leci)
[bardzo ](dziekuje|dzieki|wielkie dzieki)[ bardzo| za pomoc| za wszystko], do (widzenia|zobaczenia|jutra)
na razie, nara, prosze bardzo, nie ma za co, milego (dnia|wieczoru), kim jestes, jak masz na imie

(merhaba|selam|selamlar|gunaydin|iyi gunler|iyi aksamlar|iyi geceler), (nasilsin|nasilsiniz|ne haber|naber)
[cok ](tesekkurler|tesekkur ederim|tesekkur ederiz|sag ol|sagol|sag olun), (hosca kal|hoscakal|gorusuruz|gule gule)
rica ederim, memnun oldum, [sen ]kimsin, adin ne, kolay gelsin

(привет|здравствуйте|здравствуй|добрый (день|вечер)|доброе утро|доброй ночи|спокойной ночи|приветствую)
как (дела|ты|вы|жизнь|поживаешь|поживаете), [большое |огромное ](спасибо|благодарю)[ большое| огромное| вам| тебе]
спасибо за (помощь|все|ответ), (пока|до (свидания|встречи|завтра)|увидимся|прощай|прощайте), удачи
(пожалуйста|не за что), хорошего (дня|вечера), приятно познакомиться, кто ты, как тебя зовут

(你|您|你们|大家|各位)好[啊|呀], 哈喽, 嗨, (早|早安|早上好|上午好|中午好|下午好|晚上好|晚安)
(你|您|最近)好吗, 最近怎么样
[非常|十分|太](感谢|谢谢)[你|您][了|的帮助], 多谢[你|您][了], (再见|拜拜|回头见|明天见|回见|下次见), 辛苦了, 不客气
(你|您)(是谁|叫什么|叫什么名字), 祝你(好运|愉快), 太(好|棒)了, 你真(棒|好|聪明), 很高兴认识你

こんにちは, こんにちわ, こんばんは, おはよう[ございます], おやすみ[なさい], やあ, もしもし, はじめまして
よろしく[お願いします], [どうも|本当に](ありがとう|有難う)[ございます|ございました], どうも, 感謝します, 助かりました
さようなら, さよなら, また(ね|明日|今度|あとで), じゃあね, バイバイ, お疲れ様[です|でした], [お]元気ですか
どういたしまして, あなたは誰[ですか], [あなたの][お]名前は[何ですか], すごい[です], いいですね

안녕[하세요|하십니까|히 가세요|히 계세요], 반가워[요], 반갑습니다, 좋은 (아침|하루|밤)[이에요|입니다| 되세요| 보내세요]
[정말 |너무 |대단히 ](감사합니다|감사해요|고마워[요]|고맙습니다), 잘 자[요], 잘 가[요], 또 (봐요|만나요|봐)
수고하세요, 수고하셨습니다, 잘 지내[요|세요|셨어요], 천만에요, 별말씀을요
(너|넌) 누구[야|예요|세요], 이름이 뭐[야|예요|에요]

(مرحبا|اهلا|أهلا|اهلا وسهلا|أهلا وسهلا|السلام عليكم|سلام|وعليكم السلام|صباح الخير|مساء الخير|تصبح على خير)
كيف (حالك|الحال|حالكم), [جزيل ](شكرا|الشكر)[ جزيلا| لك| لكم| كثيرا| على مساعدتك], مع السلامة, (الى|إلى) اللقاء, وداعا
عفوا, العفو, تشرفنا, من (أنت|انت), ما اسمك, بارك الله فيك, جزاك الله خيرا

(नमस्ते|नमस्कार|प्रणाम|सुप्रभात|शुभ रात्रि|शुभ संध्या), [आप ]कैसे (हैं|हो)[ आप], क्या हाल (है|हैं)
[आपका ][बहुत बहुत |बहुत ](धन्यवाद|शुक्रिया), (अलविदा|फिर मिलेंगे), (आप कौन हैं|तुम कौन हो|आपका नाम क्या है)
(namaste|namaskar|dhanyavaad|dhanyavad|shukriya|kaise ho|aap kaise hain|annyeong|annyeonghaseyo|arigato|arigatou)
(konnichiwa|ohayo|sayonara|arigato gozaimasu|ni hao|xie xie|privet|spasibo|salam|shukran|marhaba)
"""

# What goes with them, and says nothing by itself.
AROUND = """
for [all |all of ](your|the|that|this) [great |kind |quick |useful |good ](help|assistance|support|time|service|work)
for [all |all of ](your|the|that|this) [great |kind |quick |useful ](info|information|answer|reply|response|advice|tip)
for (that|this|it|everything|all|being there|asking|trying|letting me know|answering my question|chatting|talking)
for (helping|assisting|answering|talking to)[ me][ out][ with that| that]
there, everyone, everybody, all, guys, friend, my friend, friends, buddy, pal, mate, man, dude, bro, sir, madam, maam
[my ](assistant|bot|robot|computer|chatbot|ai|dear), again, too, as well, today, tonight, now, then, later, soon, around
tomorrow, next (time|week), another time, so (much|far|very much), very much, a (lot|bunch|ton|million), much, kindly
right now, this fine day, alligator, in advance, always, really, exactly
actually, anyway, for (now|today|real|sure), ok, okay, kk, alright, please, pls
(<good>|very good|super|sweet|wow|yay), got it, i (see|understand), oh, ah, aw, aww, hmm, hm, um, so, and, but, no, nope
by the way, btw, i (guess|think), (to|with|from) you, to (you|u) too, until then, in a (bit|while)
(can|could|would|will|may|might) (you|u|i) [please ](tell|ask)[ me], do you know, (tell|let) me[ know][ if]
i (need|want|wanna|gotta) [to ]know[ if], or [are you |if you are ]<a>(<bot>|not)
i (wonder|would like to know|wanted to say|just wanted to say|would like to say), id like to (know|say)
usted, tambien, [mi ]amigo, por favor, mon ami, aussi, et (toi|vous), mein freund, auch, und (dir|ihnen|du)
и (ты|вы|тебе|вам), друг, जी, 吗, 呢, 啊, 呀, 哦, 吧, ね, よ, 요
"""
