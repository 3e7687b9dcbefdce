"""E-mail domains that anybody can have an address at, so that sharing one says nothing about who somebody is."""

FREE_MAIL = frozenset(
    """
    126.com 163.com 1und1.de 21cn.com alice.it aliyun.com aol.co.uk aol.com aol.de arcor.de att.net bell.net bellsouth.net
    bigpond.com bigpond.net.au blueyonder.co.uk bluewin.ch bol.com.br btinternet.com btopenworld.com centrum.cz charter.net
    comcast.net cox.net daum.net docomo.ne.jp duck.com earthlink.net email.com eircom.net ezweb.ne.jp fastmail.com
    fastmail.fm foxmail.com free.fr freenet.de freemail.hu gmail.com gmx.at gmx.ch gmx.co.uk gmx.com gmx.de gmx.fr gmx.net
    googlemail.com hanmail.net hey.com home.nl hotmail.be hotmail.ca hotmail.ch hotmail.co.jp hotmail.co.uk hotmail.com
    hotmail.com.au hotmail.com.br hotmail.de hotmail.es hotmail.fr hotmail.it hotmail.nl hotmail.se hushmail.com icloud.com
    iinet.net.au inbox.com inbox.lv inbox.ru interia.pl kpnmail.nl kolumbus.fi laposte.net libero.it list.ru live.be
    live.ca live.co.uk live.com live.com.au live.de live.dk live.fr live.ie live.it live.nl live.no live.se mac.com mail.com
    mail.de mail.ru mailbox.org me.com msn.com naver.com nate.com neuf.fr ntlworld.com o2.pl o2online.de onet.pl online.de
    online.no optonline.net optusnet.com.au orange.fr outlook.at outlook.be outlook.co.uk outlook.com outlook.com.au
    outlook.com.br outlook.de outlook.dk outlook.es outlook.fr outlook.ie outlook.it outlook.jp outlook.pt ozemail.com.au
    planet.nl pm.me posteo.de post.cz proton.me protonmail.ch protonmail.com qq.com rambler.ru rediffmail.com rocketmail.com
    rogers.com rr.com sapo.pt sbcglobal.net seznam.cz sfr.fr shaw.ca sina.com skynet.be sky.com softbank.ne.jp sohu.com
    sympatico.ca t-online.de talk21.com talktalk.net telenet.be telia.com telus.net terra.com.br tiscali.co.uk tiscali.it
    tutanota.com tuta.io ukr.net uol.com.br vodafone.de verizon.net virgilio.it virginmedia.com vp.pl wanadoo.fr web.de
    windowslive.com wp.pl xs4all.nl xtra.co.nz yahoo.ca yahoo.co.in yahoo.co.jp yahoo.co.uk yahoo.com yahoo.com.ar
    yahoo.com.au yahoo.com.br yahoo.com.mx yahoo.de yahoo.es yahoo.fr yahoo.ie yahoo.in yahoo.it yahoo.se yandex.com
    yandex.ru yeah.net ymail.com ziggo.nl zoho.com
    """.split()  # noqa: SIM905 - a line per name would fill pages
)
